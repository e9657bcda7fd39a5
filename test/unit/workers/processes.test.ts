import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { describe, expect, onTestFinished, test } from "vitest";
import { asFloat32, decode } from "../../../src/tensor/encoded.ts";
import type { Adapter } from "../../../src/adapter/adapter.ts";
import { CREDIT_BYTES } from "../../../src/protocol/limits.ts";
import { createSharedMemory } from "../../../src/transport/shared-memory.ts";
import { zeromqTransport } from "../../../src/transport/zeromq.ts";
import { processLauncher } from "../../../src/workers/process-launcher.ts";
import { createWorkerPool, type PoolOptions } from "../../../src/workers/pool.ts";
import { packageRoot } from "../../../src/installation.ts";
import { named, type Task, type TaskFailure, type WorkerHello } from "../../../src/workers/task.ts";
import { fitRequest } from "../../support/scripted-worker.ts";
import { eventually, PATIENCE_MS } from "../../support/patience.ts";

/* Real processes and real sockets; only the workers' behaviour is scripted. */

const faultWorker = fileURLToPath(new URL("../../fixtures/fault-worker.mjs", import.meta.url));

type SetUp = Partial<PoolOptions> & { readonly kind?: "ipc" | "tcp" };
async function setUp(mode: string, { kind = "ipc", ...overrides }: SetUp = {}) {
  const logFolder = await mkdtemp(join(tmpdir(), "processes-"));
  const transport = await zeromqTransport({ kind });
  const memory = createSharedMemory();
  const hellos: WorkerHello[] = [];
  const failures: TaskFailure[] = [];
  const pool = createWorkerPool({
    launcher: processLauncher({ command: process.execPath, args: [faultWorker, mode] }),
    transport,
    memory,
    devices: ["cpu"],
    count: 2,
    threads: 1,
    retries: 2,
    startTimeoutMs: PATIENCE_MS,
    beatTimeoutMs: PATIENCE_MS,
    taskTimeoutMs: PATIENCE_MS,
    logFolder,
    listener: { ready: (hello) => hellos.push(hello), failure: (failure) => failures.push(failure) },
    ...overrides,
  });
  onTestFinished(async () => {
    await pool.close({ now: true });
    await transport.close();
    await memory.close();
    await rm(logFolder, { recursive: true });
  });
  return { pool, transport, hellos, failures, logFolder };
}

function fitTask(client: string, floats = 8): Task<"fit"> {
  const payload: Adapter = { r: 2, rows: new Float32Array(floats).map((_, i) => i % 1000), dense: Float32Array.of(-1) };
  const request = fitRequest(client, 2);
  return { ...named({ kind: "fit", round: 1, clientId: client }), request, payload, expect: { rows: [2, floats / 2], dense: [1] } };
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

describe("worker processes", () => {
  test.each(["ipc", "tcp"] as const)("receive tensors larger than the credit over %s, send them back, and end when asked", async (kind) => {
    const { pool, hellos, transport } = await setUp("serves", { kind });
    await pool.start();
    const floats = CREDIT_BYTES / 4 + 1000;
    const replies = await Promise.all([pool.run(fitTask("c0", floats)), pool.run(fitTask("c1"))]);
    const { rows } = replies[0].payload;
    expect(rows?.length).toBe(floats);
    expect(rows && decode(rows)[floats - 1]).toBe((floats - 1) % 1000);
    expect(replies[1].payload.dense).toEqual(asFloat32(Float32Array.of(-1)));
    const { endpoint, close } = transport.open("nobody");
    close();
    await pool.close();
    await transport.close();
    expect(hellos.map(({ pid }) => isAlive(pid))).toEqual(hellos.map(() => false));
    if (kind === "ipc") expect(existsSync(dirname(endpoint.replace("ipc://", "")))).toBe(false);
  });

  const cuda = (index: number) => ({ type: "cuda", name: `visible: ${index}`, capability: null, memoryBytes: null });
  test.each([
    ["a processor and a GPU", ["cpu", "cuda:3"], 2, [{ type: "cpu", name: "visible: ", capability: null, memoryBytes: null }, cuda(3)]],
    ["four GPUs", ["cuda:0", "cuda:1", "cuda:2", "cuda:3"], 4, [cuda(0), cuda(1), cuda(2), cuda(3)]],
    ["one GPU with two slots", ["cuda:1"], 2, [cuda(1), cuda(1)]],
  ])("see only their own device, given %s", async (_, devices, count, seen) => {
    const { pool, hellos } = await setUp("serves", { devices, count });
    await pool.start();
    await eventually(() => expect(hellos.length).toBe(count));
    expect(hellos.toSorted((a, b) => a.workerId.localeCompare(b.workerId)).map(({ device }) => device)).toEqual(seen);
  });

  test.each(["ipc", "tcp"] as const)("that die at start reject the pool's start with the end of their log, over %s", async (kind) => {
    const { pool } = await setUp("dies", { kind });
    const logTail = expect.stringContaining("no module named torch");
    await expect(pool.start()).rejects.toMatchObject({ details: { exitCode: 1, logTail, logPath: expect.stringMatching(/\.log$/) } });
  });

  test("workers that never say hello reject the pool's start at the deadline", async () => {
    const { pool } = await setUp("mute", { startTimeoutMs: 200 });
    await expect(pool.start()).rejects.toThrow(/\bhello\b.*\b0\.2 s\b/);
  });

  test.each(["ipc", "tcp"] as const)("that cannot be found reject the pool's start, over %s", async (kind) => {
    const { pool } = await setUp("", { kind, launcher: processLauncher({ command: "/nowhere/python" }) });
    await expect(pool.start()).rejects.toThrow("spawn /nowhere/python ENOENT");
  });

  test.each(["ipc", "tcp"] as const)("that crash in a task are replaced, and another worker does the task, over %s", async (kind) => {
    const { pool, failures } = await setUp("crashes", { kind });
    await pool.start();
    const replies = await Promise.all(["c0", "c1", "c2", "c3"].map((client) => pool.run(fitTask(client))));
    expect(replies.every(({ workerId }) => workerId !== "w0")).toBe(true);
    const error = { details: { signal: "SIGKILL" } };
    for (const failure of failures) expect(failure).toMatchObject({ workerId: "w0", willRetry: true, error });
  });

  test("workers that are suspended are killed for their silence and replaced", async () => {
    const { pool, failures, hellos } = await setUp("freezes", { count: 1, beatTimeoutMs: 6000 });
    await pool.start();
    expect(await pool.run(fitTask("c0"))).toMatchObject({ workerId: "w0.1", attempt: 2 });
    expect(failures).toMatchObject([{ workerId: "w0", error: { message: expect.stringMatching(/\bheartbeat\b.*\b6 s\b/) } }]);
    expect(isAlive(hellos[0]?.pid ?? 0)).toBe(false);
  });

  test("that do not end when asked are killed at once by close({ now: true })", async () => {
    const { pool, hellos } = await setUp("stays");
    await pool.start();
    await Promise.all([pool.close(), pool.close({ now: true })]);
    expect(hellos.map(({ pid }) => isAlive(pid))).toEqual(hellos.map(() => false));
  });

  test("end when the controller is killed, and their socket's folder is removed", async () => {
    const compiled = join(packageRoot(), "node_modules", ".cache", `doomed-${process.pid}`);
    const logFolder = await mkdtemp(join(tmpdir(), "doomed-"));
    onTestFinished(async () => {
      for (const folder of [compiled, logFolder]) await rm(folder, { recursive: true, force: true });
    });
    const tsc = join(packageRoot(), "node_modules", "typescript", "bin", "tsc");
    await execa(process.execPath, [tsc, "-p", join(packageRoot(), "tsconfig.build.json"), "--outDir", compiled, "--noCheck"]);

    const script = fileURLToPath(new URL("../../fixtures/doomed-controller.mjs", import.meta.url));
    for (const kind of ["ipc", "tcp"]) {
      const controller = execa(process.execPath, [script, compiled, logFolder, kind], { stderr: "inherit", reject: false });
      const { value: line } = await controller.iterable()[Symbol.asyncIterator]().next();
      const { endpoint, pids } = JSON.parse(line ?? "") as { endpoint: string; pids: number[] };
      const socket = endpoint.replace("ipc://", "");
      expect([existsSync(socket), ...pids.map(isAlive)]).toEqual([kind === "ipc", true, true]);

      controller.kill("SIGKILL");
      await controller;
      const left = () => [existsSync(dirname(socket)) && kind === "ipc", ...pids.map(isAlive)];
      await eventually(() => expect(left()).toEqual([false, false, false]));
    }
  });
});
