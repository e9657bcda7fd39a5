import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, onTestFinished, test } from "vitest";
import { EnvironmentError } from "../../../src/errors.ts";
import { createSocketFolder } from "../../../src/transport/socket-folder.ts";
import { eventually } from "../../support/patience.ts";

let temporary: string;
beforeEach(async () => {
  temporary = await mkdtemp(join(tmpdir(), "folders-"));
});
afterEach(() => rm(temporary, { recursive: true, force: true }));

test("a socket folder is private, and is removed with its content", async () => {
  const { socketPath, remove } = await createSocketFolder(temporary);
  expect((await stat(dirname(socketPath))).mode & 0o777).toBe(0o700);
  await writeFile(socketPath, "");
  await Promise.all([remove(), remove()]);
  expect(await readdir(temporary)).toEqual([]);
});

test("two socket folders have different names", async () => {
  const [first, second] = await Promise.all([createSocketFolder(temporary), createSocketFolder(temporary)]);
  expect(first.socketPath).not.toBe(second.socketPath);
  await Promise.all([first.remove(), second.remove()]);
});

test("/tmp replaces a temporary folder whose path is too long for a socket", async () => {
  const { socketPath, remove } = await createSocketFolder(join(temporary, "x".repeat(90)));
  expect(socketPath).toMatch(/^\/tmp\/prelort-/);
  expect(Buffer.byteLength(socketPath)).toBeLessThanOrEqual(100);
  await remove();
  expect(existsSync(dirname(socketPath))).toBe(false);
});

test("a missing temporary folder is an EnvironmentError with a remedy", async () => {
  const creation = createSocketFolder(join(temporary, "missing"));
  await expect(creation).rejects.toThrow(EnvironmentError);
  await expect(creation).rejects.toMatchObject({ remedy: expect.stringContaining("TMPDIR") });
});

test.runIf(process.platform === "linux")(
  "when its creator is killed, a socket folder is removed and all workers of its socket are ended, even suspended ones",
  async () => {
    const compiled = join(import.meta.dirname, "../../../dist/transport/socket-folder.js");
    const program = `
      const { createSocketFolder } = await import(${JSON.stringify(compiled)});
      process.stdout.write((await createSocketFolder(${JSON.stringify(temporary)})).socketPath);
      setInterval(() => {}, 1000);`;
    const maker = spawn(process.execPath, ["--input-type=module", "-e", program], { stdio: ["ignore", "pipe", "inherit"] });
    const socketPath = String((await once(maker.stdout, "data"))[0]);
    const idle = ["-e", "setInterval(() => {}, 1000); console.log(1)"];
    const start = (endpoint: string) => spawn(process.execPath, [...idle, "--", endpoint], { stdio: ["ignore", "pipe", "inherit"] });
    const [worker, stranger] = [start(`ipc://${socketPath}`), start("ipc:///tmp/another/socket")];
    onTestFinished(() => void stranger.kill("SIGKILL"));
    await Promise.all([once(worker.stdout, "data"), once(stranger.stdout, "data")]);
    worker.kill("SIGSTOP");
    const ended = once(worker, "exit");
    maker.kill("SIGKILL");
    expect(await ended).toEqual([null, "SIGKILL"]);
    await eventually(() => expect(existsSync(dirname(socketPath))).toBe(false));
    expect([stranger.exitCode, stranger.signalCode]).toEqual([null, null]);
  },
);
