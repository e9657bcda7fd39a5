import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { writeRunFixture } from "../../support/trained-run.ts";

// Starting processes is slow on a busy machine.
vi.setConfig({ testTimeout: 300_000 });

const cli = path.join(import.meta.dirname, "../../../dist/cli/main.js");
let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), "prelort-closed-"));
});
afterEach(() => rm(directory, { recursive: true }));

/** Runs the command line with its output closed before it writes anything. */
async function closed(args: readonly string[], streams: readonly ("stdout" | "stderr")[]): Promise<{ code: unknown; stderr: string }> {
  const child = spawn(process.execPath, [cli, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let stderr = "";
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  for (const stream of streams) child[stream].destroy();
  const [code] = (await once(child, "close")) as [unknown];
  return { code, stderr };
}

test.each([["--help"], ["report"]])("%s exits with 141 and prints nothing if nobody reads its output", async (command) => {
  await writeRunFixture(directory);
  const args = command === "--help" ? [command] : [command, directory];
  expect(await closed(args, ["stdout"])).toEqual({ code: 141, stderr: "" });
  if (command === "report") expect(readFileSync(path.join(directory, "report.html"), "utf8")).toMatch(/<\/html>\s*$/);
});

test("a command whose error nobody reads exits with 141, too", async () => {
  expect(await closed(["run", path.join(directory, "missing.yaml")], ["stdout", "stderr"])).toEqual({ code: 141, stderr: "" });
});

test.skipIf(!existsSync("/dev/full"))("a full disk under the output exits with 3 and a message, without a stack", async () => {
  const full = openSync("/dev/full", "w");
  const child = spawn(process.execPath, [cli, "--help"], { stdio: ["ignore", full, "pipe"] });
  closeSync(full);
  let stderr = "";
  child.stderr?.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  const [code] = (await once(child, "close")) as [unknown];
  expect({ code, stderr }).toEqual({
    code: 3,
    stderr: expect.stringMatching(/^prelort: [^\n]*ENOSPC[^\n]*\n$/),
  });
});

test("an error is printed even if standard output is closed", async () => {
  const { code, stderr } = await closed(["run", path.join(directory, "missing.yaml")], ["stdout"]);
  expect(code).toBe(2);
  expect(stderr).toContain("missing.yaml");
});
