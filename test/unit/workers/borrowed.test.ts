import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, openSync, readSync, writeSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { createDeferred } from "../../../src/base/deferred.ts";
import { createWorkerPool } from "../../../src/workers/pool.ts";
import type { WorkerLauncher } from "../../../src/workers/launch.ts";
import { named, type Task, type TaskFailure } from "../../../src/workers/task.ts";
import { fitted, onePlainStep, scriptedSettings } from "../../support/scripted-worker.ts";
import { eventually } from "../../support/patience.ts";

/** A process that holds 72 bytes of anonymous memory, as a worker does until its answer has been read. */
const HOLDER = "import os,time\nf=os.memfd_create('x')\nos.pwrite(f,b'\\0'*72,0)\nprint(f,flush=True)\ntime.sleep(600)";

function fitTask(client: string, overrides: Partial<Task<"fit">> = {}): Task<"fit"> {
  const seed = "0".repeat(32);
  const request = {
    type: "fit",
    round: 1,
    client_id: client,
    r: 1,
    scale: 2,
    seed,
    fit: onePlainStep,
    update_dtype: "F32",
    partial_sum: null,
  } as const;
  const payload = { r: 1, rows: Float32Array.of(1, 2), dense: new Float32Array() };
  return { ...named({ kind: "fit", round: 1, clientId: client }), request, payload, expect: { rows: [1, 2] }, ...overrides };
}

describe.runIf(process.platform === "linux")("an answer with tensors in the worker's memory", () => {
  let holder: ReturnType<typeof spawn>;
  let shared: { pid: null; fd: number; offset: number };
  beforeEach(async () => {
    holder = spawn("python3", ["-c", HOLDER], { stdio: ["ignore", "pipe", "inherit"] });
    shared = { pid: null, fd: Number((await once(holder.stdout as NonNullable<typeof holder.stdout>, "data"))[0]), offset: 64 };
  });
  afterEach(() => void holder.kill("SIGKILL"));

  test("is requeued without a lost attempt if the worker dies in its next task before they were read", async () => {
    const pids: Record<string, number> = { w0: holder.pid as number, w1: process.pid };
    const own = openSync("/dev/shm", constants.O_DIRECTORY | 0o20000000 | constants.O_RDWR, 0o600);
    onTestFinished(() => closeSync(own));
    writeSync(own, new Uint8Array(72));
    const looking = createDeferred<void>();
    const bothTurnsTaken = createDeferred<void>();
    const begun = createDeferred<string>();
    let looked = 0;
    const settings = scriptedSettings(async (worker) => {
      if (worker.workerId === "w0.1") return worker.serve();
      const isHolder = worker.workerId === "w0";
      worker.hello({ pid: pids[worker.workerId], shares_memory: true });
      if (isHolder) holder.once("exit", () => worker.exit({ signal: "SIGKILL" }));
      for (let fits = 0; ; fits++) {
        const fit = await worker.expect("fit");
        if (isHolder && fits === 1) {
          worker.send({ type: "beat", activity: "fit", task_id: fit.task_id, step: 0, steps: 2 });
          return begun.resolve(fit.task_id);
        }
        if (isHolder) await bothTurnsTaken.promise;
        const tensors = [
          {
            name: "rows",
            dtype: "F32",
            shape: [1, 2],
            bytes: 8,
            crc32: null,
            shared: isHolder ? shared : { pid: null, fd: own, offset: 64 },
          },
        ];
        worker.send({ ...fitted(fit), task_id: fit.task_id, attempt: fit.attempt, tensors });
      }
    });
    const launcher: WorkerLauncher = { launch: (options) => ({ ...settings.launcher.launch(options), pid: pids[options.workerId] }) };
    const failures: TaskFailure[] = [];
    const listener = { failure: (failure: TaskFailure) => void failures.push(failure) };
    const pool = createWorkerPool({ ...settings, launcher, devices: ["cpu"], count: 2, retries: 0, listener });
    await pool.start();
    const accept = async () => {
      if (++looked === 2) bothTurnsTaken.resolve();
      await looking.promise;
      return false;
    };
    const tasks = Array.from({ length: 6 }, (_, index) => fitTask(`c${index}`, { priority: 10 - index, accept }));
    const runs = tasks.map((task) => pool.run(task));
    const guilty = await begun.promise;
    holder.kill("SIGKILL");
    await once(holder, "exit");
    looking.resolve();
    const settled = await Promise.allSettled(runs);
    expect(tasks.filter((_, index) => settled[index]?.status === "rejected").map(({ id }) => id)).toEqual([guilty]);
    expect(failures.map(({ taskId }) => taskId)).toEqual([guilty]);
    await pool.close({ now: true });
  });

  test("is returned to the worker even if refused, so that the memory can be reused", async () => {
    const files: number[] = [];
    onTestFinished(() => {
      for (const file of files) closeSync(file);
    });
    const settings = scriptedSettings(async (worker) => {
      worker.hello({ pid: process.pid, shares_memory: true });
      for (;;) {
        const fit = await worker.expect("fit");
        const width = fit.client_id === "c0" ? 3 : 2;
        const fd = openSync("/dev/shm", constants.O_DIRECTORY | 0o20000000 | constants.O_RDWR, 0o600);
        writeSync(fd, new Uint8Array(64 + 4 * width));
        files.push(fd);
        const tensor = {
          name: "rows",
          dtype: "F32",
          shape: [1, width],
          bytes: 4 * width,
          crc32: null,
          shared: { pid: null, fd, offset: 64 },
        };
        worker.send({ ...fitted(fit), task_id: fit.task_id, attempt: fit.attempt, tensors: [tensor] });
      }
    }, process.pid);
    const pool = createWorkerPool({ ...settings, devices: ["cpu"], count: 1, retries: 2 });
    await pool.start();
    const [refused, taken] = await Promise.allSettled([pool.run(fitTask("c0")), pool.run(fitTask("c1"))]);
    expect([refused.status, taken.status]).toEqual(["rejected", "fulfilled"]);
    const first = (file: number) => {
      const byte = new Uint8Array(1);
      readSync(file, byte, 0, 1, 0);
      return byte[0];
    };
    await eventually(() => expect(files.map(first)).toEqual([1, 1, 1, 1]));
    await pool.close({ now: true });
  });
});
