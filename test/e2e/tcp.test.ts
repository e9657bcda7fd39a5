import { execFileSync, spawnSync } from "node:child_process";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import path from "node:path";
import { execa } from "execa";
import { beforeAll, expect, test } from "vitest";
import { federate, type LaunchOptions, processLauncher, type WorkerLauncher } from "../../src/index.ts";
import { cacheFolder } from "../../src/installation.ts";
import type { Finding } from "../../src/setup/examine.ts";
import { cli, python, root, temporaryFolder, tinyRun } from "../support/e2e.ts";
import { PATIENCE_MS } from "../support/patience.ts";

const runs = temporaryFolder();
/** Of the same run with one worker of this machine, over ipc. */
let expected: string;
beforeAll(async () => {
  expected = (await federate({ ...tinyRun(runs(), "ipc"), workers: { count: 1 } }).result).sha256;
});

/** A process's command line, which every user can read, and on Linux its environment too. */
function shownOf(pid: number): string {
  const commandLine = execFileSync("ps", ["-ww", "-o", "args=", "-p", `${pid}`], { encoding: "utf8" });
  return process.platform === "linux" ? commandLine + readFileSync(`/proc/${pid}/environ`, "latin1") : commandLine;
}

function textsUnder(folder: string): string[] {
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).map((name) => path.join(folder, name));
  return files.filter((file) => statSync(file).isFile()).map((file) => readFileSync(file, "latin1"));
}

/** Records what local workers were launched with, and shares no memory with them: tensors too go through the socket. */
function recordingLauncher(launched: LaunchOptions[]): WorkerLauncher {
  const local = processLauncher({ command: python });
  return {
    launch(options) {
      launched.push(options);
      return { ...local.launch(options), pid: undefined };
    },
  };
}

test("real workers over tcp give the same bytes as over ipc, on one port, and no key can be read anywhere", async () => {
  const launched: LaunchOptions[] = [];
  const run = federate({
    ...tinyRun(runs(), "tcp"),
    workers: { count: 2, transport: "tcp" },
    launcher: recordingLauncher(launched),
  });
  const shown: string[] = [];
  for await (const event of run) if (event.type === "worker-ready") shown.push(shownOf(event.pid));
  const { sha256, directory } = await run.result;
  expect(sha256).toBe(expected);

  expect(shown.length).toBeGreaterThan(0);
  for (const text of shown) expect(text).toMatch(/--endpoint tcp:\/\/127\.0\.0\.1:\d+ .*--lease 30 --curve/);
  expect([launched.length, new Set(launched.map(({ endpoint }) => endpoint)).size]).toEqual([2, 1]);
  const texts = [...shown, ...textsUnder(directory)];
  for (const { serverKey } of launched) {
    expect(serverKey).toHaveLength(40);
    expect(texts.filter((text) => text.includes(serverKey ?? "") || text.includes("prelort-key"))).toEqual([]);
  }
});

test("workers that a command starts give the same bytes, and end with the run", async () => {
  // As ssh and srun do: another process between, a shell that greets, nothing of this process but its streams.
  const through = ["/bin/sh", "-c", 'echo "Welcome to $0"; exec env -i PATH="$PATH" HOME="$HOME" "$@"', "{host}"];
  const run = federate({
    ...tinyRun(runs(), "elsewhere"),
    workers: { count: 2, transport: "tcp", command: through, hosts: ["host-a", "host-b"], devices: ["cpu"], python },
  });
  const pids: number[] = [];
  for await (const event of run) if (event.type === "worker-ready") pids.push(event.pid);
  const { sha256, directory } = await run.result;
  expect(sha256).toBe(expected);
  expect(pids.length).toBeGreaterThan(0);
  for (const pid of pids) expect(() => process.kill(pid, 0)).toThrow("ESRCH");
  const logs = ["w0", "w1"].map((id) => readFileSync(path.join(directory, "workers", `${id}.log`), "utf8"));
  expect(logs.map((log) => /^Welcome to (host-.)$/m.exec(log)?.[1])).toEqual(["host-a", "host-b"]);
});

test("doctor --cluster starts a worker on each machine of a config, and tells what it found or what went wrong", async () => {
  const { name, model, data } = tinyRun(runs(), "examined");
  const ask = async (workers: object) => {
    const file = path.join(runs(), "examined.yaml");
    const written = {
      name,
      rounds: 1,
      model: { name_or_path: model.nameOrPath, task: "causal-lm" },
      lora: { r: 8, target_modules: ["q_proj"] },
      data: { path: data.path, prompt: data.prompt, answer: data.answer, clients: 2 },
      strategy: { rank_assignment: { name: "list", ranks: [8, 4] } },
      workers: { transport: "tcp", devices: ["cpu"], hosts: ["host-a", "host-b"], python, ...workers },
    };
    writeFileSync(file, JSON.stringify(written));
    const told = await execa(process.execPath, [cli, "doctor", "--cluster", file, "--json"], { reject: false });
    const { findings } = JSON.parse(told.stdout) as { readonly findings: readonly Finding[] };
    return { findings, exitCode: told.exitCode };
  };
  const well = await ask({ command: ["env", "HOST={host}"] });
  expect(well.exitCode).toBe(0);
  expect(well.findings.filter(({ name }) => name.startsWith("worker ")).map(({ name, status }) => [name, status])).toEqual(
    expect.arrayContaining([
      ["worker w0", "ok"],
      ["worker w1", "ok"],
    ]),
  );
  expect(well.findings.map(({ name }) => name)).toContain(`${hostname()}: device`);

  const ill = await ask({ command: ["sh", "-c", "echo no such machine: $0 >&2; exit 9", "{host}"] });
  expect(ill.exitCode).not.toBe(0);
  const [problem] = ill.findings.filter(({ status }) => status === "missing");
  expect(problem?.found).toMatch(/\bcode 9\b[^]*no such machine: host-/);
});

/** Whether this user may give a process other mounts, so that it sees what another machine would. */
const canUnshare = process.platform === "linux" && spawnSync("unshare", ["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).status === 0;

test.skipIf(!canUnshare)("a worker on a machine without the prepared data prepares it there, to the same bytes", async () => {
  const prepared = path.join(cacheFolder(), "prepared");
  // Only the replacement of the first worker is on that machine.
  const script = `case "$*" in *"--worker-id w0.1 "*) mount -t tmpfs tmpfs '${prepared}';; esac; exec "$@"`;
  const command = ["unshare", "-m", "sh", "-c", script, "sh"];
  const run = federate({
    ...tinyRun(runs(), "two-machines"),
    workers: { count: 1, transport: "tcp", command, devices: ["cpu"], python },
  });
  const done: string[] = [];
  const pids = new Map<string, number>();
  for await (const event of run) {
    if (event.type === "worker-ready") pids.set(event.workerId, event.pid);
    if (event.type === "worker-status" && event.task) done.push(`${event.workerId} ${event.task.kind}`);
    const pid = pids.get("w0");
    if (event.type !== "client-fit" || pid === undefined) continue;
    pids.delete("w0");
    process.kill(pid, "SIGKILL");
  }
  const { sha256 } = await run.result;
  expect(sha256).toBe(expected);
  expect(done).toEqual(expect.arrayContaining(["w0 prepare", "w0 fit", "w0.1 load", "w0.1 prepare", "w0.1 fit"]));
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
