import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { execa } from "execa";
import { expect, test } from "vitest";
import { federate, type LaunchOptions, processLauncher, type WorkerLauncher } from "../../src/index.ts";
import { python, root, temporaryFolder, tinyRun } from "../support/e2e.ts";
import { PATIENCE_MS } from "../support/patience.ts";

const runs = temporaryFolder();

/** A process's command line, which every user can read, and on Linux its environment too. */
function shownOf(pid: number): string {
  const commandLine = execFileSync("ps", ["-ww", "-o", "args=", "-p", `${pid}`], { encoding: "utf8" });
  return process.platform === "linux" ? commandLine + readFileSync(`/proc/${pid}/environ`, "latin1") : commandLine;
}

function textsUnder(folder: string): string[] {
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).map((name) => path.join(folder, name));
  return files.filter((file) => statSync(file).isFile()).map((file) => readFileSync(file, "latin1"));
}

test("real workers give the same bytes over tcp as over ipc, and their secret keys appear nowhere", async () => {
  const local = processLauncher({ command: python });
  const launched: LaunchOptions[] = [];
  const launcher: WorkerLauncher = {
    launch(options) {
      launched.push(options);
      // Without a pid, tensors also go through the socket.
      return { ...local.launch(options), pid: undefined };
    },
  };
  const run = federate({ ...tinyRun(runs(), "tcp"), workers: { count: 2, transport: "tcp" }, launcher });
  const shown: string[] = [];
  for await (const event of run) if (event.type === "worker-ready") shown.push(shownOf(event.pid));
  const { sha256, directory } = await run.result;
  expect(sha256).toBe((await federate(tinyRun(runs(), "ipc")).result).sha256);

  expect(shown.length).toBeGreaterThan(0);
  for (const text of shown) expect(text).toMatch(/--endpoint tcp:\/\/127\.0\.0\.1:\d+ .*--curve/);
  const texts = [...shown, ...textsUnder(directory)];
  for (const { curve } of launched) {
    expect(curve?.secretKey).toHaveLength(40);
    expect(texts.filter((text) => text.includes(curve?.secretKey ?? ""))).toEqual([]);
  }
});

test("a closed tcp transport does not keep a program alive", async () => {
  const program = `
    import { zeromqTransport } from ${JSON.stringify(path.join(root, "dist/transport/zeromq.js"))};
    const transports = await Promise.all([1, 2].map(() => zeromqTransport({ kind: "tcp" })));
    for (const transport of transports) transport.open("w0");
    for (const transport of transports) await transport.close();
    console.log("closed");
  `;
  const { stdout } = await execa(process.execPath, ["--input-type=module", "--eval", program], { timeout: PATIENCE_MS });
  expect(stdout).toBe("closed");
});
