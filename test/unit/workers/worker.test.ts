import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import PQueue from "p-queue";
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { InterruptedError, RefusedError, WorkerError } from "../../../src/errors.ts";
import type { Adapter } from "../../../src/adapter/adapter.ts";
import { createAssembler, describeTensors, lendTensors, splitTensors } from "../../../src/protocol/tensor-chunks.ts";
import { CHUNK_BYTES, CREDIT_BYTES, PROTOCOL_VERSION } from "../../../src/protocol/limits.ts";
import type { ControllerMessageOf } from "../../../src/protocol/messages.ts";
import type { TensorDescriptor } from "../../../src/protocol/fields.ts";
import { named, type Task, type WorkerStatus } from "../../../src/workers/task.ts";
import { asFloat32, decode, type Encoded } from "../../../src/tensor/encoded.ts";
import { borrowFrom, createSharedMemory } from "../../../src/transport/shared-memory.ts";
import type { Receiving } from "../../../src/workers/attempt.ts";
import { createBuffers } from "../../../src/workers/buffers.ts";
import { Hosts } from "../../../src/workers/hosts.ts";
import { createDeferred } from "../../../src/base/deferred.ts";
import type { LaunchOptions } from "../../../src/workers/launch.ts";
import type { WorkerSettings } from "../../../src/workers/settings.ts";
import { Worker } from "../../../src/workers/worker.ts";
import { fitRequest, fitted, scriptedSettings, type ScriptedWorker, takePayload } from "../../support/scripted-worker.ts";
import { eventually, PATIENCE_MS } from "../../support/patience.ts";

const adapter = { r: 2, rows: Float32Array.of(1, 2, 3, 4, 5, 6), dense: Float32Array.of(7) };
const expected = { rows: [2, 3], dense: [1] };

function fitTask(overrides: Partial<Task<"fit">> = {}): Task {
  const request = fitRequest("c0", 2);
  return { ...named({ kind: "fit", round: 1, clientId: "c0" }), request, payload: adapter, expect: expected, ...overrides } as Task;
}

type Settings = WorkerSettings & Omit<Receiving, "borrow">;
const receiving = () => ({ buffers: createBuffers(), turns: new PQueue(), hosts: new Hosts() });
const statuses: WorkerStatus[] = [];
/** A worker played by `script`; passes its frames on to the Worker. */
function start(script: (worker: ScriptedWorker) => unknown, overrides: Partial<Settings> = {}): Worker {
  const settings = { ...scriptedSettings(script), ...receiving(), ...overrides };
  const worker = new Worker({ id: "w0", index: 0, device: "cpu" }, settings, (status) => statuses.push(status));
  void (async () => {
    for await (const { frames } of settings.transport.receive()) worker.receive(...frames);
  })();
  return worker;
}

beforeEach(() => {
  statuses.length = 0;
});
afterEach(() => {
  vi.useRealTimers();
});

describe("the start of a worker", () => {
  test("is over once it says hello", async () => {
    const worker = start((peer) => peer.hello());
    expect(await worker.ready).toEqual({
      workerId: "w0",
      pid: 7,
      host: "tiny",
      versions: { python: "3.11" },
      variables: {},
      device: { type: "cpu", name: "cpu", capability: null, memoryBytes: null },
    });
    expect(statuses.map(({ state }) => state)).toEqual(["starting", "ready"]);
  });

  test("shows the activity in its heartbeats", async () => {
    const worker = start((peer) => {
      peer.send({ type: "beat", activity: "importing torch", task_id: null, step: 0, steps: 0 });
      peer.hello();
    });
    await worker.ready;
    expect(statuses.map(({ activity }) => activity)).toEqual(["starting", "importing torch", "idle"]);
  });

  test("fails when the process dies, with its exit code and the last lines of its log", async () => {
    const worker = start((peer) => {
      writeFileSync(peer.logPath, `${"noise\n".repeat(100)}ModuleNotFoundError: No module named 'torch'\n`);
      peer.exit({ exitCode: 1 });
    });
    await expect(worker.ready).rejects.toThrow(WorkerError);
    const error = await worker.ended;
    expect(error?.details.logTail?.split("\n").length).toBe(20);
    expect(error?.details.logTail).toContain("ModuleNotFoundError: No module named 'torch'");
    expect(error?.details).toMatchObject({ workerId: "w0", exitCode: 1, logPath: expect.stringMatching(/w0\.log$/) });
    expect(error?.message).toMatch(/\bw0\b.*\bcode 1\b[^]*ModuleNotFoundError: No module named 'torch'/);
  });

  test("fails when the process cannot be started", async () => {
    const worker = start((peer) => peer.exit({ problem: "spawn python ENOENT" }));
    await expect(worker.ready).rejects.toThrow("spawn python ENOENT");
  });

  test("fails if it speaks another protocol version", async () => {
    const worker = start((peer) => peer.send({ type: "hello", protocol_version: 1 }));
    await expect(worker.ready).rejects.toThrow(`another protocol version: expected ${PROTOCOL_VERSION}, got 1`);
    expect(worker.status().state).toBe("failed");
  });

  test("fails if no hello arrives in time, even with heartbeats", async () => {
    vi.useFakeTimers();
    const worker = start(
      (peer) => setInterval(() => peer.send({ type: "beat", activity: "importing", task_id: null, step: 0, steps: 0 }), 1000),
      {
        startTimeoutMs: 8000,
      },
    );
    const failure = expect(worker.ready).rejects.toThrow(/\bhello\b.*\b8 s\b/);
    await vi.advanceTimersByTimeAsync(8000);
    vi.useRealTimers();
    await failure;
  });
});

describe("a task", () => {
  test("is sent with its tensors, and its answer arrives whole", async () => {
    const worker = start(async (peer) => {
      peer.hello();
      const fit = await peer.expect("fit");
      const received = await takePayload(peer, fit);
      peer.answer(fit, fitted(fit), received);
    });
    await worker.ready;
    const reply = await worker.run(fitTask(), 1);
    expect(reply).toMatchObject({ workerId: "w0", attempt: 1, message: { type: "fitted", client_id: "c0" } });
    expect(reply?.payload).toEqual({ rows: asFloat32(adapter.rows), dense: asFloat32(adapter.dense) });
    expect(statuses.map(({ state, taskId }) => [state, taskId])).toEqual([
      ["starting", null],
      ["ready", null],
      ["busy", "round-1/fit/c0"],
      ["ready", null],
    ]);
  });

  describe.runIf(process.platform === "linux")("of a worker that shares memory", () => {
    const shares = { pid: process.pid, shares_memory: true };
    const borrow = borrowFrom(process.pid);
    /** The worker's side. */
    const memory = createSharedMemory();
    afterAll(() => memory.close());
    const startSharing = (script: (worker: ScriptedWorker) => unknown, pid?: number, changes: Partial<Settings> = {}) =>
      start(script, { ...scriptedSettings(script, pid), ...changes });
    const lend = async (payload: Adapter) => [...((await lendTensors(payload, memory.lend))?.descriptors ?? [])];

    test("takes one message each way, and the memory lent with the answer is returned", async () => {
      let lent: readonly TensorDescriptor[] = [];
      const worker = startSharing(async (peer) => {
        peer.hello(shares);
        const fit = await peer.expect("fit");
        const assembler = createAssembler(fit.tensors, "any");
        await assembler.copy(borrow); // which also marks it as read, in its first byte
        const { rows, dense } = assembler.finish();
        expect([decode(rows as Encoded), decode(dense as Encoded)]).toEqual([adapter.rows, adapter.dense]);
        lent = await lend(adapter);
        peer.answer(fit, { ...fitted(fit), tensors: lent });
      }, process.pid);
      await worker.ready;
      const reply = await worker.run(fitTask(), 1);
      expect(reply?.payload).toEqual({ rows: asFloat32(adapter.rows), dense: asFloat32(adapter.dense) });
      expect(lent.map(({ shared }) => readFileSync(`/proc/self/fd/${shared?.fd}`)[0])).toEqual([1, 1]);
    });

    test.each([
      ["tensors of the wrong shape", { r: 1, rows: Float32Array.of(1, 2, 3), dense: new Float32Array() }, "rows"],
      ["memory that does not exist", undefined, expect.any(String)],
    ])("fails when its answer lends %s", async (_, answered, received) => {
      const worker = startSharing(async (peer) => {
        peer.hello(shares);
        const fit = await peer.expect("fit");
        const broken = fit.tensors.map((tensor) => ({ ...tensor, shared: { pid: null, fd: 999_999, offset: 0 } }));
        peer.answer(fit, { ...fitted(fit), tensors: answered ? await lend(answered) : broken });
      }, process.pid);
      await worker.ready;
      await expect(worker.run(fitTask(), 1)).rejects.toMatchObject({ kind: "refused", received });
      expect(worker.status().state).toBe("ready");
    });

    test.each(["chunk", "end"])("fails when its answer lends tensors and a %s follows", async (type) => {
      const worker = startSharing(async (peer) => {
        peer.hello(shares);
        const fit = await peer.expect("fit");
        const { task_id, attempt } = fit;
        peer.send({ task_id, attempt, ...fitted(fit), tensors: await lend(adapter) });
        const parts = [...splitTensors({ ...adapter, rows: adapter.rows.map(() => 9) })];
        if (type === "chunk") for (const part of parts) peer.send({ task_id, attempt, type, ...part });
        peer.send({ task_id, attempt, type: "end" });
      }, process.pid);
      await worker.ready;
      await expect(worker.run(fitTask(), 1)).rejects.toMatchObject({ kind: "refused", received: type });
      expect(worker.status().state).toBe("ready");
    });

    test("may wait for its turn indefinitely once its answer has been delivered", async () => {
      vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
      const earlier = createDeferred<void>();
      const turns = new PQueue({ concurrency: 1 });
      void turns.add(() => earlier.promise);
      const worker = startSharing(
        async (peer) => {
          peer.hello(shares);
          const fit = await peer.expect("fit");
          peer.answer(fit, { ...fitted(fit), tensors: await lend(adapter) });
        },
        process.pid,
        { turns, taskTimeoutMs: 1000 },
      );
      await worker.ready;
      const reply = worker.run(fitTask(), 1);
      // Every poll advances the faked clock by an interval.
      await vi.waitUntil(() => turns.size === 1, { timeout: PATIENCE_MS, interval: 0.001 });
      await vi.advanceTimersByTimeAsync(5000);
      expect(worker.status().state).toBe("busy");
      earlier.resolve();
      await expect(reply).resolves.toMatchObject({ attempt: 1 });
    });

    test.each([
      ["says that it shares no memory", { pid: process.pid, shares_memory: false }, process.pid],
      ["is not the launched process", { pid: 1, shares_memory: true }, process.pid],
      ["was launched on another machine", shares, undefined],
    ])("is sent in chunks when the worker %s, and the answer must be, too", async (_, hello, pid) => {
      const worker = startSharing(async (peer) => {
        peer.hello(hello);
        const fit = await peer.expect("fit");
        await takePayload(peer, fit);
        peer.answer(fit, { ...fitted(fit), tensors: await lend(adapter) });
      }, pid);
      await worker.ready;
      await expect(worker.run(fitTask(), 1)).rejects.toMatchObject({ kind: "refused", expected: "chunks" });
    });
  });

  test("sends no more bytes than the credit, and continues as credit is returned", async () => {
    const floats = CREDIT_BYTES / 4 + 10;
    const rows = new Float32Array(floats);
    let beforeCredit = 0;
    const worker = start(async (peer) => {
      peer.hello();
      const fit = await peer.expect("fit");
      for (; beforeCredit < CREDIT_BYTES; beforeCredit += CHUNK_BYTES) await peer.expect("chunk");
      // Nothing more is on its way until credit is returned.
      const next = peer.next();
      expect(await Promise.race([next, new Promise((resolve) => setImmediate(resolve, "nothing"))])).toBe("nothing");
      peer.send({ type: "credit", bytes: CHUNK_BYTES });
      expect(await next).toMatchObject({ type: "chunk", offset: CREDIT_BYTES, data: { length: 40 } });
      await peer.expect("end");
      peer.answer(fit, { type: "failure", error: { kind: "failed", message: "Enough", traceback: "", problems: [] } });
    });
    await worker.ready;
    await expect(worker.run(fitTask({ payload: { r: 1, rows, dense: new Float32Array() } }), 1)).rejects.toThrow("Enough");
  });

  test("ends its worker if that answers early and, while its heartbeats continue, stops receiving the tensors", async () => {
    vi.useFakeTimers();
    const worker = start(
      async (peer) => {
        peer.hello();
        setInterval(() => peer.send({ type: "beat", activity: "idle", task_id: null, step: 0, steps: 0 }), 1000);
        const fit = await peer.expect("fit");
        peer.answer(fit, { type: "failure", error: { kind: "failed", message: "Early", traceback: "", problems: [] } });
      },
      { taskTimeoutMs: 4000 },
    );
    await worker.ready;
    const rows = new Float32Array(CREDIT_BYTES / 4 + 10);
    const failure = expect(worker.run(fitTask({ payload: { r: 1, rows, dense: new Float32Array() } }), 1)).rejects.toThrow("Early");
    await vi.advanceTimersByTimeAsync(5000);
    vi.useRealTimers();
    await failure;
    expect((await worker.ended)?.message).toMatch(/\bround-1\/fit\/c0\b.*\b4 s\b/);
  });

  test("returns credit for every chunk, including those of refused and late answers", async () => {
    let peer: ScriptedWorker | undefined;
    const worker = start(async (scripted) => {
      peer = scripted;
      peer.hello();
      for (const task_id of ["round-1/fit/c0", "before"]) {
        const fit = await peer.expect("fit");
        await takePayload(peer, fit);
        peer.answer({ task_id, attempt: fit.attempt }, fitted(fit), { r: 1, rows: Float32Array.of(1, 2, 3), dense: new Float32Array() });
        if (task_id === "before") peer.answer(fit, fitted(fit), adapter);
      }
      await peer.next();
    });
    await worker.ready;
    await expect(worker.run(fitTask(), 1)).rejects.toMatchObject({ expected: "rows and dense", received: "rows" });
    expect((await worker.run(fitTask(), 2))?.payload).toEqual({ rows: asFloat32(adapter.rows), dense: asFloat32(adapter.dense) });
    await eventually(() => expect(peer?.credited()).toBe(12 + 12 + 28));
  });

  type Answer = (peer: ScriptedWorker, id: { task_id: string; attempt: number }, header: Record<string, unknown>) => void;
  const ofTask: object = { message: expect.stringContaining("round-1/fit/c0") };
  test.each<[string, Answer, object]>([
    [
      "a shape that would broadcast",
      (peer, id, header) => peer.answer(id, header, { ...adapter, r: 1, rows: adapter.rows.subarray(0, 3) }),
      { expected: "shape [2, 3]", received: "[1, 3]" },
    ],
    ["no tensors at all", (peer, id, header) => peer.answer(id, header), { expected: "rows and dense", received: "none" }],
    [
      "an answer of another type",
      (peer, id) => peer.answer(id, { type: "evaluated", columns: [], metrics: [], samples: [], seconds: 0, tensors: [] }),
      { expected: "fitted", received: "evaluated" },
    ],
    ["an end before its answer", (peer, id) => peer.send({ ...id, type: "end" }), ofTask],
    [
      "a chunk before its answer",
      (peer, id) => peer.send({ ...id, type: "chunk", tensor: "rows", offset: 0, data: new Uint8Array(4) }),
      ofTask,
    ],
  ])("fails because of %s, and the worker continues", async (_, reply, refusal) => {
    const worker = start(async (peer) => {
      peer.hello();
      const fit = await peer.expect("fit");
      await takePayload(peer, fit);
      reply(peer, { task_id: fit.task_id, attempt: fit.attempt }, fitted(fit));
      const again = await peer.expect("fit");
      await takePayload(peer, again);
      peer.answer(again, fitted(again), adapter);
    });
    await worker.ready;
    const refused = worker.run(fitTask(), 1);
    await expect(refused).rejects.toThrow(RefusedError);
    await expect(refused).rejects.toMatchObject(refusal);
    await expect(worker.run(fitTask(), 2)).resolves.toMatchObject({ attempt: 2 });
  });

  test("a task that fails in Python rejects with the whole traceback", async () => {
    const worker = start(async (peer) => {
      peer.hello();
      const fit = await peer.expect("fit");
      await takePayload(peer, fit);
      peer.answer(fit, {
        type: "failure",
        error: { kind: "failed", message: "ValueError: bad", traceback: "Traceback\n  line 1\nValueError: bad", problems: [] },
      });
    });
    await worker.ready;
    const failed = worker.run(fitTask(), 1);
    await expect(failed).rejects.toThrow(/\bw0\b.*\bround-1\/fit\/c0\b.*ValueError: bad/);
    await expect(failed).rejects.toMatchObject({ details: { workerId: "w0", traceback: "Traceback\n  line 1\nValueError: bad" } });
  });

  test("a task that fails because of the user's input rejects with a ConfigError that has camelCase keys", async () => {
    const worker = start(async (peer) => {
      peer.hello();
      const fit = await peer.expect("fit");
      await takePayload(peer, fit);
      const problems = [
        { option: "data.eval_path", message: "has labels" },
        { option: "lora.target_modules", message: "takes in" },
      ];
      peer.answer(fit, { type: "failure", error: { kind: "input", message: "both", traceback: "", problems } });
    });
    await worker.ready;
    const issues = [
      { path: "data.evalPath", message: "has labels" },
      { path: "lora.target_modules", message: "takes in" },
    ];
    await expect(worker.run(fitTask(), 1)).rejects.toMatchObject({ kind: "config", issues });
  });

  test("a task that is cancelled rejects with an InterruptedError", async () => {
    const worker = start(async (peer) => {
      peer.hello();
      const fit = await peer.expect("fit");
      await takePayload(peer, fit);
      worker.cancel();
      const cancel = await peer.expect("cancel");
      peer.answer(cancel, { type: "failure", error: { kind: "cancelled", message: "", traceback: "", problems: [] } });
    });
    await worker.ready;
    await expect(worker.run(fitTask(), 1)).rejects.toThrow(InterruptedError);
  });

  test.each([
    [
      "a garbled frame",
      (peer: ScriptedWorker) => peer.sendRaw(Uint8Array.of(1, 2, 3)),
      { message: expect.stringContaining("a msgpack map") },
    ],
    [
      "credit that it never had",
      (peer: ScriptedWorker) => peer.send({ type: "credit", bytes: 1 }),
      { message: expect.stringMatching(/\bcredit\b.*\b0 bytes\b.*\b1$/m) },
    ],
    ["a second hello", (peer: ScriptedWorker) => peer.hello(), { message: expect.stringMatching(/\bhello\b/) }],
    [
      "its end by a signal",
      (peer: ScriptedWorker) => peer.exit({ signal: "SIGSEGV" }),
      { message: expect.stringMatching(/\bSIGSEGV\b.*\bround-1\/fit\/c0\b/), details: { signal: "SIGSEGV" } },
    ],
  ])("fails with its worker, of which no process is left, after %s", async (_, fault, error) => {
    let peer: ScriptedWorker | undefined;
    const worker = start(async (scripted) => {
      peer = scripted;
      peer.hello();
      await takePayload(peer, await peer.expect("fit"));
      fault(peer);
    });
    await worker.ready;
    await expect(worker.run(fitTask(), 1)).rejects.toMatchObject(error);
    expect(await worker.ended).toMatchObject(error);
    expect(worker.status().state).toBe("failed");
  });
});

describe("a task that is given in advance", () => {
  const first = fitTask(named({ kind: "fit", round: 1, clientId: "c0" }));
  const second = fitTask(named({ kind: "fit", round: 1, clientId: "c1" }));
  const beat = (peer: ScriptedWorker, task_id: string, step: number) =>
    peer.send({ type: "beat", activity: "fit", task_id, step, steps: 9 });

  const answerWithoutTensors = (peer: ScriptedWorker) => {
    const { id: task_id, request } = first;
    peer.send({ task_id, attempt: 1, ...fitted(request as ControllerMessageOf<"fit">), tensors: describeTensors(adapter) });
  };
  const takeBoth = async (peer: ScriptedWorker) => {
    await takePayload(peer, await peer.expect("fit"));
    await takePayload(peer, await peer.expect("fit"));
  };

  test("is sent whole while the worker does the previous one, and then becomes its current task", async () => {
    const worker = start(async (peer) => {
      peer.hello();
      const tasks = [await peer.expect("fit")];
      await takePayload(peer, tasks[0] as (typeof tasks)[0]);
      tasks.push(await peer.expect("fit"));
      await takePayload(peer, tasks[1] as (typeof tasks)[0]);
      for (const fit of tasks) peer.answer(fit, fitted(fit), adapter);
    });
    await worker.ready;
    const replies = await Promise.all([worker.run(first, 1), worker.run(second, 1)]);
    expect(replies.map((reply) => reply?.message.task_id)).toEqual([first.id, second.id]);
    expect(statuses.map(({ state, taskId }) => [state, taskId])).toEqual([
      ["starting", null],
      ["ready", null],
      ["busy", first.id],
      ["busy", second.id],
      ["ready", null],
    ]);
  });

  test.each<[string, (peer: ScriptedWorker) => void, string]>([
    ["before it began, and the previous one fails", () => {}, first.id],
    ["after its first heartbeat, and it fails: the previous answer was on its way", (peer) => beat(peer, second.id, 1), second.id],
    ["after the previous answer arrived without its tensors, and it fails", (peer) => answerWithoutTensors(peer), second.id],
  ])("lets one of the two be requeued when their worker dies %s", async (_, before, guilty) => {
    const worker = start(async (peer) => {
      peer.hello();
      await takeBoth(peer);
      before(peer);
      peer.sendRaw(Uint8Array.of(1));
    });
    await worker.ready;
    const settled = await Promise.allSettled([worker.run(first, 1), worker.run(second, 1)]);
    const [failed, requeued] = guilty === first.id ? settled : settled.toReversed();
    expect(failed).toMatchObject({ status: "rejected", reason: expect.any(WorkerError) });
    expect(requeued).toEqual({ status: "fulfilled", value: undefined });
  });

  test("has its own deadline from the end of the previous one", async () => {
    vi.useFakeTimers();
    const worker = start(
      async (peer) => {
        peer.hello();
        const fit = await peer.expect("fit");
        await takePayload(peer, fit);
        await takePayload(peer, await peer.expect("fit"));
        setTimeout(() => peer.answer(fit, fitted(fit), adapter), 3000);
      },
      { taskTimeoutMs: 4000 },
    );
    await worker.ready;
    const runs = [worker.run(first, 1), worker.run(second, 1)];
    const failure = expect(runs[1]).rejects.toThrow(/\bround-1\/fit\/c1\b.*\b4 s\b/);
    await vi.advanceTimersByTimeAsync(6900);
    expect(worker.status()).toMatchObject({ state: "busy", task: second.identity, taskId: second.id });
    await vi.advanceTimersByTimeAsync(200);
    vi.useRealTimers();
    await failure;
    await expect(runs[0]).resolves.toMatchObject({ attempt: 1 });
  });

  test("is cancelled together with the current one", async () => {
    const cancelled: string[] = [];
    const worker = start(async (peer) => {
      peer.hello();
      await takeBoth(peer);
      worker.cancel();
      for (let asked = 0; asked < 2; asked++) {
        const cancel = await peer.expect("cancel");
        cancelled.push(cancel.task_id);
        peer.answer(cancel, { type: "failure", error: { kind: "cancelled", message: "", traceback: "", problems: [] } });
      }
    });
    await worker.ready;
    for (const run of [worker.run(first, 1), worker.run(second, 1)]) await expect(run).rejects.toThrow(InterruptedError);
    expect(cancelled).toEqual([first.id, second.id]);
  });

  test("is requeued at once if the worker has ended", async () => {
    const worker = start((peer) => {
      peer.hello();
      peer.sendRaw(Uint8Array.of(1));
    });
    await worker.ended;
    expect(await worker.run(first, 1)).toBeUndefined();
  });
});

test("a worker that dies while it is sent a task is reported with its exit, not with the frame that found no peer", async () => {
  const settings = scriptedSettings((peer) => peer.hello());
  const refused = createDeferred<void>();
  const send = async () => {
    refused.resolve();
    throw new RefusedError("a frame to w0", "a connected peer", "none of that name");
  };
  const worker = start((peer) => peer.hello(), { ...settings, transport: { ...settings.transport, send } });
  await worker.ready;
  const running = worker.run(fitTask(), 1);
  await refused.promise;
  await nextTurn();
  settings.launched[0]?.exit({ signal: "SIGKILL" });
  await expect(running).rejects.toMatchObject({ kind: "worker", details: { signal: "SIGKILL" } });
});

describe("a silent worker", () => {
  test("is killed when its heartbeats stop", async () => {
    vi.useFakeTimers();
    const worker = start((peer) => peer.hello(), { beatTimeoutMs: 4000 });
    await worker.ready;
    await vi.advanceTimersByTimeAsync(3999);
    expect(worker.status().state).toBe("ready");
    await vi.advanceTimersByTimeAsync(1);
    vi.useRealTimers();
    expect((await worker.ended)?.message).toMatch(/\bheartbeat\b.*\b4 s\b/);
  });

  test("is killed when its heartbeats continue but a task makes no progress", async () => {
    vi.useFakeTimers();
    const progress = [1, 2, 3, 3, 3, 3, 3, 3, 3, 3];
    const worker = start(
      async (peer) => {
        peer.hello();
        await takePayload(peer, await peer.expect("fit"));
        for (const [second, step] of progress.entries()) {
          setTimeout(() => peer.send({ type: "beat", activity: "fit c0", task_id: "round-1/fit/c0", step, steps: 9 }), second * 1000);
        }
      },
      { taskTimeoutMs: 4000 },
    );
    await worker.ready;
    const run = expect(worker.run(fitTask(), 1)).rejects.toThrow(/\bround-1\/fit\/c0\b.*\b4 s\b/);
    await vi.advanceTimersByTimeAsync(5900);
    expect(worker.status()).toMatchObject({ state: "busy", step: 3, steps: 9, activity: "fit c0" });
    await vi.advanceTimersByTimeAsync(200);
    vi.useRealTimers();
    await run;
  });
});

describe("stopping a worker", () => {
  test("asks it to stop, which is not an error", async () => {
    const worker = start(async (peer) => {
      peer.hello();
      await peer.expect("stop");
      peer.exit({ exitCode: 0 });
    });
    await worker.ready;
    worker.stop(5000);
    expect(await worker.ended).toBeUndefined();
    expect(statuses.map(({ state }) => state)).toEqual(["starting", "ready", "stopping", "stopped"]);
  });

  test("kills it after the grace", async () => {
    vi.useFakeTimers();
    const worker = start((peer) => peer.hello());
    await worker.ready;
    worker.stop(5000);
    await vi.advanceTimersByTimeAsync(4999);
    expect(worker.status().state).toBe("stopping");
    await vi.advanceTimersByTimeAsync(1);
    vi.useRealTimers();
    expect(await worker.ended).toBeUndefined();
    expect(worker.status().state).toBe("stopped");
  });

  test("kills it at once without a grace, even if an earlier call gave one", async () => {
    const worker = start((peer) => peer.hello());
    await worker.ready;
    worker.stop(60_000);
    worker.stop(0);
    expect(await worker.ended).toBeUndefined();
  });

  test("kills it at once while it is still starting", async () => {
    const worker = start(() => {});
    worker.stop(60_000);
    expect(await worker.ended).toBeUndefined();
    await expect(worker.ready).rejects.toThrow(InterruptedError);
  });
});

test("every worker has its log in the log folder under its own name", async () => {
  let logPath = "";
  const settings = scriptedSettings((peer) => {
    logPath = peer.logPath;
    peer.exit({ exitCode: 3 });
  });
  const worker = new Worker({ id: "w1.2", index: 1, device: "cpu" }, { ...settings, ...receiving() }, () => {});
  await worker.ended;
  expect(logPath).toBe(join(settings.logFolder, "w1.2.log"));
});

describe("a worker over tcp", () => {
  const KEY = "k".repeat(40);
  /** A worker behind a door with a server key, whose launcher learns its public key when `key` resolves. */
  function startOverTcp(
    publicKey: Promise<string> | undefined,
    { isRemote = false, ...overrides }: Partial<Settings> & { isRemote?: boolean } = {},
  ) {
    let played: ScriptedWorker | undefined;
    const settings = scriptedSettings((peer) => {
      played = peer;
    });
    const door = { endpoint: "tcp://127.0.0.1:1", serverKey: "s", admit: vi.fn(), close: vi.fn() };
    const open = vi.fn(() => door);
    const launcher = { isRemote, launch: (options: LaunchOptions) => ({ ...settings.launcher.launch(options), publicKey }) };
    const transport = { ...settings.transport, open };
    const worker = new Worker(
      { id: "w0", index: 0, device: "cpu" },
      { ...settings, ...receiving(), launcher, transport, ...overrides },
      (status) => statuses.push(status),
    );
    worker.ready.catch(() => {});
    return { worker, door, open, played: () => played };
  }

  test("its door is its own, lists the key that its launcher learnt, and is closed once its process is gone", async () => {
    const { worker, door, open, played } = startOverTcp(Promise.resolve(KEY), { beatTimeoutMs: 7000 });
    await eventually(() => expect(door.admit.mock.calls).toEqual([[KEY]]));
    expect(played()).toMatchObject({ endpoint: "tcp://127.0.0.1:1", serverKey: "s", lease: 7, index: 0 });
    expect([open.mock.calls, door.close.mock.calls.length]).toEqual([[["w0"]], 0]);
    played()?.exit({ exitCode: 3 });
    await worker.ended;
    expect(door.close).toHaveBeenCalledTimes(1);
  });

  test.each([
    [true, "failed", [[true]]],
    [false, "ready", []],
  ] as const)(
    "that is silent and not connected any more is lost before its next heartbeat is due, if it is remote: %s",
    async (isRemote, state, kills) => {
      vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
      const kill = vi.fn();
      let [isConnected, sent] = [true, 0];
      const settings = scriptedSettings((peer) => peer.hello());
      const send = async () => {
        sent++;
        if (!isConnected) throw new RefusedError("a frame", "a connected peer", "none");
      };
      const launcher = { isRemote, launch: (options: LaunchOptions) => ({ ...settings.launcher.launch(options), kill }) };
      const worker = start(() => {}, { ...settings, launcher, transport: { ...settings.transport, send }, beatTimeoutMs: 40_000 });
      await worker.ready;
      await vi.advanceTimersByTimeAsync(10_000);
      expect([sent > 0, kill.mock.calls]).toEqual([isRemote, []]);
      isConnected = false;
      await vi.advanceTimersByTimeAsync(10_000);
      expect([worker.status().state, kill.mock.calls]).toEqual([state, kills]);
    },
  );

  test("the time to start counts from the key of a remote worker on, however long it waited for a place", async () => {
    vi.useFakeTimers();
    const key = createDeferred<string>();
    const { worker, played } = startOverTcp(key.promise, { startTimeoutMs: 1000, isRemote: true });
    await vi.advanceTimersByTimeAsync(3_600_000);
    expect([worker.status().state, worker.status().activity]).toEqual(["starting", "waiting for its process to start"]);
    key.resolve(KEY);
    await vi.advanceTimersByTimeAsync(999);
    expect([worker.status().state, played()?.wasKilled()]).toEqual(["starting", false]);
    await vi.advanceTimersByTimeAsync(2);
    expect([worker.status().state, played()?.wasKilled()]).toEqual(["failed", true]);
  });

  test("the time to start counts from the launch of a local worker on", async () => {
    vi.useFakeTimers();
    const { worker } = startOverTcp(createDeferred<string>().promise, { startTimeoutMs: 1000 });
    await vi.advanceTimersByTimeAsync(1001);
    expect(worker.status().state).toBe("failed");
  });

  test("a launcher that gives no public key is an error", async () => {
    const { worker } = startOverTcp(undefined);
    expect((await worker.ended)?.message).toContain("its launcher gave no public key");
  });

  test("a key that comes after it was stopped is not listed", async () => {
    const key = createDeferred<string>();
    const { worker, door } = startOverTcp(key.promise);
    worker.stop(0);
    await worker.ended;
    key.resolve(KEY);
    await key.promise;
    await nextTurn();
    expect(door.admit).not.toHaveBeenCalled();
  });
});
