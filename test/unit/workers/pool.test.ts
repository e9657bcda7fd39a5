import { setImmediate } from "node:timers/promises";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { createDeferred } from "../../../src/base/deferred.ts";
import { InterruptedError, RefusedError, RunFailedError, WorkerError } from "../../../src/errors.ts";
import { CREDIT_BYTES } from "../../../src/protocol/limits.ts";
import { decode } from "../../../src/tensor/encoded.ts";
import { createWorkerPool, type PoolOptions } from "../../../src/workers/pool.ts";
import { named, type Reply, type Task, type TaskFailure, type WorkerPool } from "../../../src/workers/task.ts";
import { fitRequest, fitted, loaded, scriptedSettings, type ScriptedWorker, takePayload } from "../../support/scripted-worker.ts";
import { eventually } from "../../support/patience.ts";

function fitTask(client: string, overrides: Partial<Task<"fit">> = {}): Task<"fit"> {
  const request = fitRequest(client, 1);
  const payload = { r: 1, rows: Float32Array.of(1, 2), dense: new Float32Array() };
  return { ...named({ kind: "fit", round: 1, clientId: client }), request, payload, expect: { rows: [1, 2] }, ...overrides };
}

const spec = {
  name_or_path: "tiny",
  revision: null,
  task: "causal-lm",
  task_folder: null,
  pooling: null,
  dtype: "f32",
  attention: null,
  quantization: null,
  trust_remote_code: false,
  problem_type: null,
} as const;
const lora = { r: 1, tiers: [1], scale: 2, target_modules: "all-linear", modules_to_save: null, lora_dropout: 0 };
const loadTask: Task<"load"> = {
  ...named({ kind: "load" }),
  request: { type: "load", seed: "0".repeat(32), model: spec, lora, index: { path: "i", sha256: "s" }, labels: [], cache_dir: "/cache" },
};

interface Setup extends Partial<PoolOptions> {
  readonly script?: (worker: ScriptedWorker) => unknown;
}

function setUp({ script = (worker) => worker.serve(), ...overrides }: Setup = {}) {
  const settings = scriptedSettings(script);
  const failures: TaskFailure[] = [];
  const ready: string[] = [];
  const pool = createWorkerPool({
    ...settings,
    devices: ["cpu"],
    count: 2,
    retries: 2,
    listener: {
      ready: ({ workerId }) => ready.push(workerId),
      failure: (failure) => failures.push(failure),
    },
    ...overrides,
  });
  return { pool, failures, ready, launched: settings.launched };
}
const closed = (pool: WorkerPool) => pool.close({ now: true });

describe("a pool of workers", () => {
  test("gives worker i the device i modulo the number of devices", async () => {
    const { pool, launched } = setUp({ count: 3, devices: ["cuda:0", "cuda:1"] });
    await pool.start();
    expect(launched.map(({ workerId, device }) => [workerId, device])).toEqual([
      ["w0", "cuda:0"],
      ["w1", "cuda:1"],
      ["w2", "cuda:0"],
    ]);
    await closed(pool);
  });

  test("starts once as many workers as are needed are ready", async () => {
    const hold = createDeferred<void>();
    const { pool, ready } = setUp({
      count: 3,
      least: 2,
      async script(worker) {
        if (worker.workerId !== "w0") await hold.promise;
        await worker.serve();
      },
    });
    let hasStarted = false;
    const started = pool.start().then(() => (hasStarted = true));
    await eventually(() => expect(ready).toEqual(["w0"]));
    expect(hasStarted).toBe(false);
    hold.resolve();
    await started;
    expect(ready.length).toBeGreaterThan(1);
    await closed(pool);
  });

  test("fails if so few workers are left that it cannot start", async () => {
    const { pool } = setUp({
      count: 2,
      least: 2,
      script(worker) {
        if (worker.workerId === "w0") void worker.serve();
        else worker.exit({ problem: "no such node" });
      },
    });
    await expect(pool.start()).rejects.toThrow("no such node");
    await closed(pool);
  });

  test("runs more tasks than it has workers, each task once", async () => {
    const { pool, failures } = setUp();
    await pool.start();
    const replies = await Promise.all(Array.from({ length: 20 }, (_, i) => pool.run(fitTask(`c${i}`))));
    expect(replies.map(({ message }) => message.client_id)).toEqual(Array.from({ length: 20 }, (_, i) => `c${i}`));
    expect(replies.every(({ payload }) => payload.rows && decode(payload.rows).join() === "1,2")).toBe(true);
    expect(failures).toEqual([]);
    await closed(pool);
  });

  test("runs larger tasks first, whatever the order of the calls", async () => {
    const { pool } = setUp({ count: 1 });
    const order: string[] = [];
    const runs = [3, 9, 1, 5].map((priority) =>
      pool.run(fitTask(`c${priority}`, { priority, accept: ({ message }) => void order.push(message.client_id) })),
    );
    await pool.start();
    await Promise.all(runs);
    expect(order).toEqual(["c9", "c5", "c3", "c1"]);
    await closed(pool);
  });
});

describe("a task given to a busy worker in advance", () => {
  /** Records the fits sent to each worker, and answers none. */
  const holding = (held: Record<string, string[]>) => async (worker: ScriptedWorker) => {
    worker.hello();
    while (true) {
      const fit = await worker.expect("fit");
      await takePayload(worker, fit);
      (held[worker.workerId] ??= []).push(fit.client_id);
    }
  };

  test("is the only one, and the largest waiting, while more tasks wait than there are workers", async () => {
    const held: Record<string, string[]> = {};
    const { pool, ready } = setUp({ script: holding(held) });
    await pool.start();
    await eventually(() => expect(ready).toEqual(["w0", "w1"]));
    const all = Promise.allSettled([1, 2, 3, 4, 5, 6, 7].map((size) => pool.run(fitTask(`c${size}`, { priority: size }))));
    await eventually(() => expect(held).toEqual({ w0: ["c7", "c5"], w1: ["c6", "c4"] }));
    await closed(pool);
    await all;
  });

  test("is none near the end, when another worker may be free first", async () => {
    const held: Record<string, string[]> = {};
    const { pool, ready } = setUp({ script: holding(held) });
    await pool.start();
    await eventually(() => expect(ready).toEqual(["w0", "w1"]));
    const all = Promise.allSettled([1, 2, 3, 4].map((size) => pool.run(fitTask(`c${size}`, { priority: size }))));
    await eventually(() => expect(held).toEqual({ w0: ["c4"], w1: ["c3"] }));
    await closed(pool);
    await all;
  });

  test("is retried like the current one, each alone and without a lost attempt, when the worker dies in either", async () => {
    const alone: string[][] = [];
    const { pool, failures } = setUp({
      count: 1,
      retries: 0,
      async script(worker) {
        worker.hello();
        const held: string[] = [];
        alone.push(held);
        for (;;) {
          const fit = await worker.expect("fit");
          const payload = await takePayload(worker, fit);
          held.push(fit.client_id);
          // The answer to the previous task is lost with the process.
          if (fit.client_id === "c2") return worker.exit({ signal: "SIGKILL" });
          if (worker.workerId === "w0" && held.length === 1) continue;
          worker.answer(fit, fitted(fit), payload);
        }
      },
    });
    await pool.start();
    const outcomes = await Promise.allSettled([3, 2, 1].map((size) => pool.run(fitTask(`c${size}`, { priority: size }))));
    expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
    expect(outcomes[0]).toMatchObject({ value: { workerId: "w0.1", attempt: 2 } });
    expect(failures.map(({ task, taskId, willRetry }) => [task, taskId, willRetry])).toEqual([
      [{ kind: "fit", round: 1, clientId: "c3" }, "round-1/fit/c3", true],
      [{ kind: "fit", round: 1, clientId: "c2" }, "round-1/fit/c2", false],
    ]);
    expect(alone[0]).toEqual(["c3", "c2"]);
    await closed(pool);
  });
});

describe("a failed attempt", () => {
  test("is final if what we ask breaks the contract, and the worker goes on", async () => {
    const { pool, failures, launched } = setUp({ count: 1 });
    const right = fitTask("c1");
    const wrong = { ...fitTask("c0"), request: { ...right.request, fit: { ...right.request.fit, local_steps: 1e300 } } };
    await pool.start();
    await expect(pool.run(wrong)).rejects.toThrow(/message fit cannot be sent: .*fit\.local_steps: /);
    expect(failures.map(({ willRetry }) => willRetry)).toEqual([false]);
    expect((await pool.run(right)).message.client_id).toBe("c1");
    expect(launched).toHaveLength(1);
    await closed(pool);
  });

  test("is retried on another worker, even if that one is busy and this one is free", async () => {
    let releaseOther = () => {};
    const { pool, failures } = setUp({
      async script(worker) {
        worker.hello();
        const fit = await worker.expect("fit");
        await takePayload(worker, fit);
        if (worker.workerId === "w0")
          return worker.answer(fit, { type: "failure", error: { kind: "failed", message: "no", traceback: "t", problems: [] } });
        await new Promise<void>((resolve) => {
          releaseOther = resolve;
        });
        worker.answer(fit, fitted(fit), { r: 1, rows: Float32Array.of(5, 6), dense: new Float32Array() });
        const again = await worker.expect("fit");
        await takePayload(worker, again);
        worker.answer(again, fitted(again), { r: 1, rows: Float32Array.of(7, 8), dense: new Float32Array() });
      },
    });
    await pool.start();
    const [first, second] = [pool.run(fitTask("c0")), pool.run(fitTask("c1"))];
    await eventually(() => expect(failures.length).toBe(1));
    releaseOther();
    const replies = await Promise.all([first, second]);
    expect(replies.map(({ workerId }) => workerId)).toEqual(["w1", "w1"]);
    expect(failures[0]).toMatchObject({ attempt: 1, workerId: "w0", willRetry: true });
    await closed(pool);
  });

  test("leaves its worker free for other tasks while it waits for another worker", async () => {
    const { pool, failures } = setUp({
      async script(worker) {
        worker.hello();
        for (let number = 0; ; number++) {
          const fit = await worker.expect("fit");
          await takePayload(worker, fit);
          if (worker.workerId === "w1") continue; // busy forever
          if (number === 0) worker.answer(fit, { type: "failure", error: { kind: "failed", message: "no", traceback: "t", problems: [] } });
          else worker.answer(fit, fitted(fit), { r: 1, rows: Float32Array.of(5, 6), dense: new Float32Array() });
        }
      },
    });
    await pool.start();
    const stuck = Promise.allSettled([pool.run(fitTask("c0")), pool.run(fitTask("c1"))]);
    await eventually(() => expect(failures.length).toBe(1));
    expect((await pool.run(fitTask("c2"))).workerId).toBe("w0");
    await closed(pool);
    await stuck;
  });

  test("is retried on the same worker if there is no other, and the reply gives the attempt's number", async () => {
    let tries = 0;
    const { pool } = setUp({ count: 1 });
    const accept = () => {
      if (++tries < 3) throw new RefusedError("an update", "finite values", "NaN");
    };
    await pool.start();
    expect((await pool.run(fitTask("c0", { accept }))).attempt).toBe(3);
    await closed(pool);
  });

  test("rejects with the last attempt's error when no attempt is left", async () => {
    const { pool, failures } = setUp({ retries: 1 });
    const accept = ({ attempt }: Reply<"fit">) => {
      throw new RefusedError("an update", "finite values", `NaN ${attempt}`);
    };
    await pool.start();
    await expect(pool.run(fitTask("c0", { accept }))).rejects.toMatchObject({ kind: "refused", received: "NaN 2" });
    expect(failures.map(({ attempt, willRetry }) => [attempt, willRetry])).toEqual([
      [1, true],
      [2, false],
    ]);
    // The worker and the pool still work.
    await expect(pool.run(fitTask("c1"))).resolves.toMatchObject({ attempt: 1 });
    await closed(pool);
  });
});

describe("a dead worker", () => {
  const dyingOnce = async (worker: ScriptedWorker) => {
    if (worker.workerId !== "w0") return worker.serve();
    worker.hello();
    await worker.expect("fit");
    worker.exit({ signal: "SIGKILL" });
  };

  test("is replaced under a new name, and its task is retried", async () => {
    const { pool, failures, ready } = setUp({ count: 1, script: dyingOnce });
    await pool.start();
    expect(await pool.run(fitTask("c0"))).toMatchObject({ workerId: "w0.1", attempt: 2 });
    expect(ready).toEqual(["w0", "w0.1"]);
    expect(failures).toMatchObject([
      {
        attempt: 1,
        workerId: "w0",
        willRetry: true,
        error: { details: { workerId: "w0", signal: "SIGKILL" }, message: expect.stringContaining("round-1/fit/c0") },
      },
    ]);
    await closed(pool);
  });

  test("cannot disturb the pool with frames that arrive after its end", async () => {
    const { pool, launched } = setUp({ count: 1, script: dyingOnce });
    await pool.start();
    await pool.run(fitTask("c0"));
    launched[0]?.sendRaw(Uint8Array.of(1, 2, 3));
    await expect(pool.run(fitTask("c1"))).resolves.toMatchObject({ workerId: "w0.1" });
    await closed(pool);
  });

  test("is not replaced after three crashes in a row in its slot, while the other slots continue", async () => {
    const { pool, launched } = setUp({
      async script(worker) {
        if (worker.workerId === "w1") return worker.serve();
        worker.hello();
        worker.sendRaw(Uint8Array.of(0xff));
      },
    });
    await pool.start();
    await eventually(() => expect(launched.map(({ workerId }) => workerId)).toContain("w0.2"));
    await eventually(() => expect(launched.find(({ workerId }) => workerId === "w0.2")?.wasKilled()).toBe(true));
    await expect(Promise.all([pool.run(fitTask("c0")), pool.run(fitTask("c1"))])).resolves.toMatchObject([
      { workerId: "w1" },
      { workerId: "w1" },
    ]);
    expect(launched.map(({ workerId }) => workerId).toSorted()).toEqual(["w0", "w0.1", "w0.2", "w1"]);
    await closed(pool);
  });

  test("does not count as one of three crashes in a row if it completed a task", async () => {
    const { pool, launched } = setUp({
      count: 1,
      retries: 1,
      async script(worker) {
        worker.hello();
        const fit = await worker.expect("fit");
        await takePayload(worker, fit);
        worker.answer(fit, fitted(fit), { r: 1, rows: Float32Array.of(5, 6), dense: new Float32Array() });
        await worker.expect("fit");
        worker.exit({ exitCode: 1 });
      },
    });
    await pool.start();
    for (let i = 0; i < 5; i++) await pool.run(fitTask(`c${i}`));
    expect(launched.length).toBe(5);
    await closed(pool);
  });

  test("costs only an attempt of its task, so that a task that kills workers fails the same on one worker as on two", async () => {
    const { pool, launched } = setUp({
      count: 1,
      retries: 3,
      async script(worker) {
        worker.hello();
        while (true) {
          const fit = await worker.expect("fit");
          if (fit.client_id === "c0") return worker.exit({ exitCode: 9 });
          await takePayload(worker, fit);
          worker.answer(fit, fitted(fit), { r: 1, rows: Float32Array.of(5, 6), dense: new Float32Array() });
        }
      },
    });
    await pool.start();
    const [poison, harmless] = await Promise.allSettled([pool.run(fitTask("c0")), pool.run(fitTask("c1"))]);
    expect(poison).toMatchObject({ status: "rejected", reason: expect.any(WorkerError) });
    expect(harmless.status).toBe("fulfilled");
    expect(launched.length).toBeGreaterThanOrEqual(4);
    await closed(pool);
  });

  test("disables its slot after three crashes in a row in different tasks, while the other slots continue", async () => {
    const givenUp: { readonly workerId: string; readonly error: Error }[] = [];
    const { pool, launched } = setUp({
      retries: 1,
      listener: { givenUp: ({ workerId, error }) => givenUp.push({ workerId, error }) },
      async script(worker) {
        if (worker.workerId === "w1") return worker.serve();
        worker.hello();
        await worker.expect("fit");
        worker.exit({ exitCode: 9 });
      },
    });
    await pool.start();
    await eventually(() => expect(launched).toHaveLength(2));
    for (let fit = 0; givenUp.length === 0; fit++) {
      await Promise.all([pool.run(fitTask(`a${fit}`)), pool.run(fitTask(`b${fit}`)), setImmediate()]);
    }
    const error = { details: { workerId: "w0.2", exitCode: 9 }, message: expect.stringContaining("round-1/fit/") };
    expect(givenUp).toMatchObject([{ workerId: "w0.2", error }]);
    expect(launched.map(({ workerId }) => workerId).toSorted()).toEqual(["w0", "w0.1", "w0.2", "w1"]);
    await closed(pool);
  });

  test("the last worker, if it crashed outside a task, ends every task, waiting or new", async () => {
    const { pool } = setUp({
      count: 1,
      async script(worker) {
        worker.hello();
        await worker.expect("load");
        worker.exit({ exitCode: 9 });
      },
    });
    await pool.start();
    const [load, fit] = await Promise.allSettled([pool.onEveryWorker(loadTask), pool.run(fitTask("c0"))]);
    for (const outcome of [load, fit]) expect(outcome).toMatchObject({ status: "rejected", reason: expect.any(RunFailedError) });
    const cause = expect.objectContaining({ details: expect.objectContaining({ exitCode: 9 }) });
    await expect(pool.run(fitTask("c1"))).rejects.toMatchObject({ kind: "run", cause });
    await pool.close();
  });
});

describe("a pool that cannot start", () => {
  test("rejects with the first worker's error and its log", async () => {
    const { pool } = setUp({ script: (worker) => worker.exit({ exitCode: 1 }) });
    await expect(pool.start()).rejects.toThrow(WorkerError);
    await expect(pool.run(fitTask("c0"))).rejects.toMatchObject({ kind: "worker", details: { exitCode: 1, logPath: expect.any(String) } });
    await pool.close();
  });

  test("rejects with an error of the key workers.devices when a device cannot be used", async () => {
    const { pool } = setUp({ script: (worker) => worker.send({ type: "unavailable", message: "cuda:3: torch sees 1 CUDA devices here" }) });
    const problem = { kind: "config", issues: [{ path: "workers.devices", message: "cuda:3: torch sees 1 CUDA devices here" }] };
    await expect(pool.start()).rejects.toMatchObject(problem);
    await pool.close();
  });

  test("ends when one worker's device cannot be used, whichever worker is ready first", async () => {
    const begun = createDeferred<void>();
    const { pool } = setUp({
      async script(worker) {
        if (worker.workerId === "w0") return worker.hello();
        await begun.promise;
        worker.send({ type: "unavailable", message: "mps: no usable MPS device" });
      },
    });
    await pool.start();
    const fits = ["c0", "c1", "c2"].map((client) => pool.run(fitTask(client)));
    begun.resolve();
    const problem = { kind: "config", issues: [{ path: "workers.devices", message: "mps: no usable MPS device" }] };
    // The third task waits, since a worker holds at most two.
    await expect(fits[2]).rejects.toMatchObject(problem);
    await Promise.all([pool.close({ now: true }), Promise.allSettled(fits)]);
  });

  test("rejects when its launcher throws", async () => {
    const launch = () => {
      throw new Error("no such device");
    };
    const { pool } = setUp({ launcher: { launch } });
    await expect(pool.start()).rejects.toThrow("no such device");
    await pool.close();
  });

  test("starts all the same if at least one worker does", async () => {
    const { pool } = setUp({
      script: (worker) => (worker.workerId === "w0" ? worker.serve() : setImmediate(() => worker.exit({ exitCode: 1 }))),
    });
    await pool.start();
    await expect(pool.run(fitTask("c0"))).resolves.toMatchObject({ workerId: "w0" });
    await closed(pool);
  });
});

describe("a task for every worker", () => {
  test("is done by all workers before any later task, and by their replacements", async () => {
    const log: string[] = [];
    const { pool } = setUp({
      async script(worker) {
        worker.hello();
        while (true) {
          const message = await worker.next();
          if (message.type !== "load" && message.type !== "fit") continue;
          log.push(`${worker.workerId} ${message.type}`);
          if (message.type === "load") worker.answer(message, loaded);
          else {
            const payload = await takePayload(worker, message);
            if (message.client_id === "poison" && !worker.workerId.includes(".")) return worker.exit({ exitCode: 1 });
            worker.answer(message, fitted(message), payload);
          }
        }
      },
    });
    await pool.start();
    expect((await pool.onEveryWorker(loadTask)).message.modules).toEqual(loaded.modules);
    await Promise.all([pool.run(fitTask("c0")), pool.run(fitTask("c1"))]);
    await expect(pool.run(fitTask("poison"))).resolves.toMatchObject({ attempt: 3 });
    for (const worker of ["w0", "w1", "w0.1", "w1.1"]) {
      const first = log.find((line) => line.startsWith(`${worker} `));
      expect(first === undefined ? "load" : first.split(" ")[1]).toBe("load");
    }
    expect(log).toContain("w0 load");
    expect(log).toContain("w1 load");
    await closed(pool);
  });

  test("rejects when the first answer is a failure", async () => {
    const { pool, failures } = setUp({
      async script(worker) {
        worker.hello();
        const load = await worker.expect("load");
        worker.answer(load, {
          type: "failure",
          error: { kind: "failed", message: "OSError: no such model", traceback: "t", problems: [] },
        });
      },
    });
    await pool.start();
    await expect(pool.onEveryWorker(loadTask)).rejects.toThrow("OSError: no such model");
    expect(failures[0]).toMatchObject({ taskId: "load", willRetry: false });
    await closed(pool);
  });

  describe("that the worker is not prepared for", () => {
    const unprepared = { type: "failure", error: { kind: "unprepared", message: "no index", traceback: "", problems: [] } };
    const ask = { type: "evaluate", round: 1, examples: "global", client_id: null, ranks: [2], scale: 2, start: 0 } as const;
    const request = { ...ask, count: 1, batch_size: 1, max_new_tokens: 0, samples: 0 } as const;
    const repair = { ...named({ kind: "evaluate" }), request } as unknown as Task;
    /** Each worker answers `load` so until it has done what comes before it. */
    const script = async (worker: ScriptedWorker) => {
      let isPrepared = false;
      worker.hello();
      while (true) {
        const message = await worker.next();
        if (message.type === "evaluate") {
          isPrepared = true;
          worker.answer(message, { type: "evaluated", columns: [], metrics: [], samples: [], seconds: 0, tensors: [] });
        } else if (message.type === "load") worker.answer(message, isPrepared ? loaded : unprepared);
        else if (message.type === "stop") return worker.exit({ exitCode: 0 });
      }
    };

    test("has it make that first, and is tried again, on every worker and without a failure", async () => {
      const { pool, failures } = setUp({ count: 2, script });
      const [repaired, accepted]: [string[], string[]] = [[], []];
      const task = {
        ...loadTask,
        accept: ({ workerId }: Reply<"load">) => void accepted.push(workerId),
        repair: { ...repair, accept: ({ workerId }: Reply) => void repaired.push(workerId) },
      };
      await pool.start();
      expect((await pool.onEveryWorker(task)).message.modules).toEqual(loaded.modules);
      await eventually(() => expect(accepted.toSorted()).toEqual(["w0", "w1"]));
      expect([repaired.toSorted(), failures]).toEqual([["w0", "w1"], []]);
      await closed(pool);
    });

    test("fails if what the worker makes is refused", async () => {
      const { pool } = setUp({ script });
      const refuse = () => {
        throw new RefusedError("the data", "one", "another");
      };
      await pool.start();
      await expect(pool.onEveryWorker({ ...loadTask, repair: { ...repair, accept: refuse } })).rejects.toThrow(RefusedError);
      await closed(pool);
    });

    test("fails if it still is not, or if there is nothing to make", async () => {
      const { pool } = setUp({
        async script(worker) {
          worker.hello();
          while (true) {
            const message = await worker.next();
            if (message.type === "load") worker.answer(message, unprepared);
            else if (message.type === "evaluate")
              worker.answer(message, { type: "evaluated", columns: [], metrics: [], samples: [], seconds: 0, tensors: [] });
          }
        },
      });
      await pool.start();
      await expect(pool.onEveryWorker({ ...loadTask, repair })).rejects.toThrow(WorkerError);
      await closed(pool);
      const { pool: other } = setUp({ script });
      await other.start();
      await expect(other.onEveryWorker(loadTask)).rejects.toThrow(WorkerError);
      await closed(other);
    });
  });

  describe("that is replaceable", () => {
    const error = { kind: "failed", message: "OSError: no such model", traceback: "t", problems: [] };
    const taskOf = (id: string): typeof loadTask => ({ ...loadTask, id, isReplaceable: true });
    /** Workers that cannot do what is named `wrong`, and write down what they are asked for. */
    const script = (log: string[]) => async (worker: ScriptedWorker) => {
      worker.hello();
      while (true) {
        const message = await worker.next();
        if (message.type === "stop") return worker.exit({ exitCode: 0 });
        if (message.type !== "load" && message.type !== "fit") continue;
        log.push(`${worker.workerId} ${message.task_id}`);
        if (message.type === "load") worker.answer(message, message.task_id === "wrong" ? { type: "failure", error } : loaded);
        else {
          const payload = await takePayload(worker, message);
          if (message.client_id === "poison") return worker.exit({ exitCode: 1 });
          worker.answer(message, fitted(message), payload);
        }
      }
    };

    test("is not done by later workers once another has taken its place", async () => {
      const log: string[] = [];
      const { pool, launched } = setUp({ count: 1, retries: 0, script: script(log) });
      await pool.start();
      for (const id of ["first", "second"]) await pool.onEveryWorker(taskOf(id));
      await expect(pool.run(fitTask("poison"))).rejects.toThrow(WorkerError);
      await pool.run(fitTask("c0"));
      expect(launched.map(({ workerId }) => workerId)).toEqual(["w0", "w0.1"]);
      expect(log.filter((line) => line.startsWith("w0.1"))).toEqual(["w0.1 second", expect.stringContaining("c0")]);
      await closed(pool);
    });

    test("ends no worker if none can do it", async () => {
      const log: string[] = [];
      const { pool, launched } = setUp({ count: 2, script: script(log) });
      await pool.start();
      for (let tries = 1; tries <= 4; tries++) await expect(pool.onEveryWorker(taskOf("wrong"))).rejects.toThrow("OSError: no such model");
      await pool.onEveryWorker(taskOf("right"));
      await Promise.all([pool.run(fitTask("c0")), pool.run(fitTask("c1"))]);
      expect(launched.map(({ workerId, wasKilled }) => [workerId, wasKilled()])).toEqual([
        ["w0", false],
        ["w1", false],
      ]);
      await closed(pool);
    });
  });

  test("a failure has the number of its own attempt, though other workers have begun theirs meanwhile", async () => {
    const others = createDeferred<void>();
    const { pool, failures } = setUp({
      count: 2,
      async script(worker) {
        worker.hello();
        const load = await worker.expect("load");
        if (load.attempt === 2) return others.resolve();
        await others.promise;
        const error = { kind: "failed", message: "OSError: no such model", traceback: "t", problems: [] };
        worker.answer(load, { type: "failure", error });
      },
    });
    await pool.start();
    await expect(pool.onEveryWorker(loadTask)).rejects.toThrow("OSError: no such model");
    expect(failures).toMatchObject([{ taskId: "load", attempt: 1 }]);
    await pool.close({ now: true });
  });

  test("fails only the worker with the refused answer, once another answer was accepted", async () => {
    const { pool, launched } = setUp({ count: 2 });
    let replies = 0;
    const accept = (reply: Reply<"load">) => {
      if (reply.workerId !== "w0" && ++replies < 2) throw new RefusedError("the model", "one", "another");
    };
    await pool.start();
    await pool.onEveryWorker({ ...loadTask, accept });
    await eventually(() => expect(launched.map(({ workerId }) => workerId)).toEqual(["w0", "w1", "w1.1"]));
    expect(launched[1]?.wasKilled()).toBe(true);
    await closed(pool);
  });
});

describe("an aborted task", () => {
  const reason = new InterruptedError("the round is closed");

  test("rejects at once, leaves the queue or is cancelled on its worker, and a late answer is ignored", async () => {
    const given = new AbortController();
    const seen: string[] = [];
    const { pool, failures } = setUp({
      count: 1,
      async script(worker) {
        worker.hello();
        const first = await worker.expect("fit");
        const payload = await takePayload(worker, first);
        given.abort(reason);
        for (;;) {
          const message = await worker.next();
          if (message.type === "cancel") {
            seen.push(`cancel ${message.task_id}`);
            // The worker completes the first in spite of the cancel.
            if (message.task_id === first.task_id) worker.answer(first, fitted(first), payload);
            else worker.answer(message, { type: "failure", error: { kind: "cancelled", message: "", traceback: "", problems: [] } });
          }
          if (message.type === "fit" && message.client_id === "c2")
            worker.answer(message, fitted(message), await takePayload(worker, message));
        }
      },
    });
    const accept = vi.fn(() => {
      given.signal.throwIfAborted();
    });
    await pool.start();
    const { signal } = given;
    const runs = ["c0", "c1", "c3", "c4"].map((client) => pool.run(fitTask(client, { accept, signal, priority: 2 })));
    const unaffected = pool.run(fitTask("c2"));
    for (const run of await Promise.allSettled(runs)) expect(run).toEqual({ status: "rejected", reason });
    expect((await unaffected).message.client_id).toBe("c2");
    expect(seen).toContain("cancel round-1/fit/c0");
    expect(seen.filter((line) => /c[34]/.test(line))).toEqual([]);
    expect(failures).toEqual([]);
    await closed(pool);
  });

  test("ends a worker that does not drop it; the worker is replaced", async () => {
    const given = new AbortController();
    const { pool, failures, launched } = setUp({
      count: 1,
      beatTimeoutMs: 1000,
      async script(worker) {
        if (worker.workerId !== "w0") return worker.serve();
        worker.hello();
        const beating = setInterval(() => worker.send({ type: "beat", activity: "fit", task_id: null, step: 0, steps: 0 }), 20);
        onTestFinished(() => clearInterval(beating));
        await worker.expect("fit");
        given.abort(reason);
      },
    });
    await pool.start();
    await expect(pool.run(fitTask("c0", { signal: given.signal }))).rejects.toBe(reason);
    expect((await pool.run(fitTask("c1"))).workerId).toBe("w0.1");
    expect(launched[0]?.wasKilled()).toBe(true);
    expect(failures).toEqual([]);
    await closed(pool);
  });
});

describe("the end of a pool", () => {
  test("by its signal rejects waiting tasks and cancels running ones", async () => {
    const controller = new AbortController();
    const cancelled: string[] = [];
    const { pool, failures } = setUp({
      count: 1,
      signal: controller.signal,
      async script(worker) {
        worker.hello();
        const fit = await worker.expect("fit");
        const payload = await takePayload(worker, fit);
        controller.abort();
        cancelled.push((await worker.expect("cancel")).task_id);
        worker.answer(fit, fitted(fit), payload);
      },
    });
    const accept = vi.fn();
    await pool.start();
    const runs = await Promise.allSettled([pool.run(fitTask("c0", { accept })), pool.run(fitTask("c1"))]);
    expect(runs.map((run) => run.status === "rejected" && run.reason instanceof InterruptedError)).toEqual([true, true]);
    await eventually(() => expect(cancelled).toEqual(["round-1/fit/c0"]));
    await expect(pool.run(fitTask("c2"))).rejects.toThrow(InterruptedError);
    await closed(pool);
    expect(failures).toEqual([]);
    expect(accept).not.toHaveBeenCalled();
  });

  test("by its signal during the start rejects the start", async () => {
    const { pool } = setUp({ signal: AbortSignal.abort(), script: () => {} });
    await expect(pool.start()).rejects.toThrow(InterruptedError);
    await pool.close();
  });

  test("asks every worker to stop, and kills those that do not", async () => {
    vi.useFakeTimers();
    const { pool, launched } = setUp({ script: (worker) => (worker.workerId === "w0" ? worker.serve() : worker.hello()) });
    await pool.start();
    await vi.advanceTimersByTimeAsync(0);
    const closing = Promise.all([pool.close(), pool.close()]);
    await vi.advanceTimersByTimeAsync(5000);
    vi.useRealTimers();
    await closing;
    expect(launched.map((worker) => worker.wasKilled())).toEqual([false, true]);
    await expect(pool.run(fitTask("c0"))).rejects.toThrow(InterruptedError);
  });

  test("with `now` kills all workers, even while they are being asked to stop", async () => {
    const { pool, launched } = setUp({ script: (worker) => worker.hello() });
    await pool.start();
    await Promise.all([pool.close(), pool.close({ now: true })]);
    expect(launched.every((worker) => worker.wasKilled())).toBe(true);
  });

  test("resolves at once before its start", async () => {
    await setUp().pool.close();
  });
});

test("a worker is asked for a sum before later grants, even if a task must be sent first", async () => {
  const seen: string[] = [];
  const script = async (worker: ScriptedWorker) => {
    worker.hello();
    for (;;) {
      const { type } = await worker.next();
      if (type !== "chunk") seen.push(type);
    }
  };
  const { pool, launched } = setUp({ script, count: 1 });
  await pool.start();
  // More than may be sent without credit.
  const payload = { r: 1, rows: new Float32Array(CREDIT_BYTES / 2), dense: new Float32Array() };
  const replies = [pool.run(fitTask("large", { payload }))];
  await eventually(() => expect(seen).toEqual(["fit"]));
  const request = { type: "collect", basis: { round: 1, adapter: "a", resolution: 1 }, dtype: "F64" } as const;
  const sum = pool.runOn<"collect">("w0", { ...named({ kind: "collect", round: 1, part: 1 }), request });
  pool.grant("w0", { task_id: "round-1/fit/a", attempt: 1 }, 1);
  launched[0]?.send({ type: "credit", bytes: CREDIT_BYTES });
  await eventually(() => expect(seen).toEqual(["fit", "end", "collect", "grant"]));
  const ends = Promise.allSettled([...replies, sum]);
  await closed(pool);
  await ends;
});

test("a task for one worker that fails is reported as failed, and its error is thrown", async () => {
  const script = async (worker: ScriptedWorker) => {
    worker.hello();
    const { task_id, attempt } = await worker.expect("collect");
    const error = { kind: "failed", message: "MemoryError", traceback: "", problems: [] };
    worker.send({ type: "failure", task_id, attempt, error });
  };
  const { pool, failures } = setUp({ script, count: 1 });
  await pool.start();
  const request = { type: "collect", basis: { round: 1, adapter: "a", resolution: 1 }, dtype: "F64" } as const;
  const sum = pool.runOn<"collect">("w0", { ...named({ kind: "collect", round: 1, part: 1 }), request });
  await expect(sum).rejects.toThrow("MemoryError");
  expect(failures).toMatchObject([{ taskId: "round-1/collect/1", attempt: 1, workerId: "w0", willRetry: false }]);
  await closed(pool);
});

describe("a machine that is lost", () => {
  /** Workers elsewhere, of which the first `lost` vanish in their first fit: their launcher tells a problem. */
  function setUpRemote(lost: number, overrides: Partial<PoolOptions> = {}) {
    let begun = 0;
    const settings = scriptedSettings(async (worker) => {
      if (begun++ >= lost) return worker.serve();
      worker.hello();
      await worker.expect("fit");
      worker.exit({ problem: "its node is gone" });
    });
    const failures: TaskFailure[] = [];
    const launcher = { ...settings.launcher, isRemote: true };
    const listener = { failure: (failure: TaskFailure) => failures.push(failure) };
    const pool = createWorkerPool({ ...settings, launcher, devices: ["cpu"], count: 1, retries: 0, listener, ...overrides });
    onTestFinished(() => pool.close({ now: true }));
    return { pool, failures };
  }

  test("counts against neither the task nor the slot, and the failure says what happened", async () => {
    const { pool, failures } = setUpRemote(5);
    await pool.start();
    const { attempt, workerId } = await pool.run(fitTask("c0"));
    expect([attempt, workerId]).toEqual([6, "w0.5"]);
    expect(failures.map(({ willRetry }) => willRetry)).toEqual([true, true, true, true, true]);
    expect(failures[0]?.error.message).toMatch(/^worker w0 on tiny: was lost in round-1\/fit\/c0: its node is gone/);
  });

  test("over and over again in one task fails that task", async () => {
    const { pool, failures } = setUpRemote(11);
    await pool.start();
    await expect(pool.run(fitTask("c0"))).rejects.toThrow(WorkerError);
    expect(failures.map(({ willRetry }) => willRetry)).toEqual([...Array.from({ length: 10 }, () => true), false]);
    await pool.run(fitTask("c1"));
  });

  test("is told apart from a worker that crashed there", async () => {
    const settings = scriptedSettings(async (worker) => {
      worker.hello();
      await worker.expect("fit");
      worker.exit({ exitCode: 1 });
    });
    const pool = createWorkerPool({
      ...settings,
      launcher: { ...settings.launcher, isRemote: true },
      devices: ["cpu"],
      count: 1,
      retries: 0,
    });
    onTestFinished(() => pool.close({ now: true }));
    await pool.start();
    await expect(pool.run(fitTask("c0"))).rejects.toThrow(WorkerError);
  });
});
