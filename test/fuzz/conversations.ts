import { readSync } from "node:fs";
import process from "node:process";
import { setImmediate, setTimeout as wait } from "node:timers/promises";
import { crc32 } from "node:zlib";
import PQueue from "p-queue";
import type { Frames } from "../../src/protocol/codec.ts";
import { PrelortError } from "../../src/errors.ts";
import { encodedBytes } from "../../src/tensor/encoded.ts";
import { createRng, deriveSeed } from "../../src/base/rng.ts";
import { memoryTransport } from "../support/memory-transport.ts";
import { createSharedMemory } from "../../src/transport/shared-memory.ts";
import { createBuffers } from "../../src/workers/buffers.ts";
import { Hosts } from "../../src/workers/hosts.ts";
import { createDeferred } from "../../src/base/deferred.ts";
import type { WorkerExit } from "../../src/workers/launch.ts";
import { isServing, type Reply, type Task } from "../../src/workers/task.ts";
import { Worker } from "../../src/workers/worker.ts";
import { stopTheClock } from "./clock.ts";
import { pack } from "./corpus.ts";
import { DEADLINE_MS, type Layer } from "./frames.ts";
import type { Sources } from "./mutate.ts";
import { drawScenario, LENT, type Scenario } from "./scenario.ts";
import { createTally, nameOf, type Tally } from "./tally.ts";

/** One call of run(), and its outcome. */
interface Run {
  readonly task: Task;
  result?: PromiseSettledResult<Reply | undefined>;
  isJudged?: true;
}

const BEAT = pack({ type: "beat", activity: "idle", task_id: null, step: 0, steps: 0 });
/** Long after all of the worker's deadlines; the clock is simulated. */
const LAST_SECOND = 40;

/** Whole conversations with the controller's side of a worker: each must end in a correct reply or a named error. */
export async function conversationLayer(seed: number, sources: Sources): Promise<Layer> {
  const rng = createRng(deriveSeed(seed, "conversations"));
  const tally = createTally();
  const memory = createSharedMemory();
  const lent = await memory.lend(LENT);
  if (!lent) throw new Error("this machine has no room for shared memory");
  const buffers = createBuffers();

  return {
    tally,
    async step() {
      const scenario = drawScenario(rng, sources, lent);
      tally.input(messagesOf(scenario).length);
      const start = performance.now();
      await play(scenario, tally);
      tally.took(performance.now() - start);
    },
    close: () => memory.close(),
  };

  async function play(scenario: Scenario, tally: Tally): Promise<void> {
    const { tasks, steps, beats } = scenario;
    const input = messagesOf(scenario).flat();
    const clock = stopTheClock();
    const transport = memoryTransport();
    const exited = createDeferred<WorkerExit>();
    const peer = transport.connect("w0");
    const exit = (how: WorkerExit) => {
      void peer.close();
      exited.resolve(how);
    };
    const launcher = { launch: () => ({ pid: process.pid, exited: exited.promise, kill: () => exit({ signal: "SIGKILL" }) }) };
    const turns = new PQueue({ concurrency: 2 });
    const timeouts = { startTimeoutMs: 4000, beatTimeoutMs: 5000, taskTimeoutMs: 8000 };
    const settings = { launcher, transport, memory, threads: 1, logFolder: "/nowhere", ...timeouts, buffers, turns, hosts: new Hosts() };
    const worker = new Worker({ id: "w0", index: 0, device: "cpu" }, settings, () => {});
    const runs: Run[] = [];
    let tries = 0;
    const run = (task: Task, attempt: number) => {
      const begun: Run = { task };
      runs.push(begun);
      void settle(begun, worker.run(task, attempt), attempt === 1 && task === tasks[0]);
    };
    const settle = async (begun: Run, reply: Promise<Reply | undefined>, isEarly: boolean) => {
      const [result] = await Promise.allSettled([reply]);
      begun.result = result;
      if (result.status === "rejected" || !result.value) return;
      // Check the others after the last frame: a late one must not reach them.
      if (isEarly) judge(begun, tally, input);
      result.value.close(isEarly);
    };
    const isSettled = () => runs.every(({ result }) => result);

    try {
      for (const step of steps) {
        if (step === "turn") await setImmediate();
        else if (step === "cancel") worker.cancel();
        else if (step === "stop") worker.stop(3000);
        else if (step === "exit") exit({ exitCode: 1 });
        else if (step === "run" && tries > 0) run(tasks[0] as Task, ++tries);
        else if (typeof step !== "string") {
          const wasAlive = worker.status().state !== "failed";
          worker.receive(...step);
          if (wasAlive && worker.status().state !== "failed") tally.passed();
        }
        if (tries > 0 || !isServing(worker.status())) continue;
        tries = 1;
        for (const task of tasks) run(task, 1);
        await setImmediate();
      }
      for (let second = 0; second < LAST_SECOND && !(await ends(isSettled)); second++) {
        if (beats) worker.receive(...BEAT);
        clock.advance(1000);
      }
      if (!(await ends(isSettled, DEADLINE_MS))) tally.hung("run() does not settle", input);
      worker.stop(0);
      let end: { readonly error: Error | undefined } | undefined;
      void (async () => (end = { error: await worker.ended }))();
      if (!(await ends(() => end !== undefined, DEADLINE_MS))) tally.hung("a worker does not end", input);
      if (!(await ends(isSettled, DEADLINE_MS))) tally.hung("run() does not settle once its worker has ended", input);
      if (end?.error) tally.refused(nameOf(end.error));
      if (clock.pending() > 0) tally.crashed(new Error("a timer is left"), input);
      for (const begun of runs) judge(begun, tally, input);
    } catch (error) {
      tally.crashed(error, input);
    } finally {
      clock.restore();
      await transport.close();
    }
  }
}

function judge(run: Run, tally: Tally, input: readonly Uint8Array[]): void {
  const { task, result } = run;
  if (result === undefined || run.isJudged) return;
  run.isJudged = true;
  if (result.status === "rejected") {
    if (result.reason instanceof PrelortError) tally.refused(nameOf(result.reason));
    else tally.crashed(result.reason, input);
  } else if (result.value === undefined) tally.refused("given back: not begun");
  else {
    const wrong = dishonesty(task, result.value);
    if (wrong === undefined) tally.accepted();
    else tally.crashed(new Error(`a reply that differs from what its worker announced: ${wrong}`), input);
  }
}

/** What is wrong with an accepted reply. */
function dishonesty(task: Task, { message, payload }: Reply): string | undefined {
  if (message.task_id !== task.id) return "another task's";
  const announced = "tensors" in message ? message.tensors : [];
  if (announced.length !== Object.keys(payload).length) return "tensors";
  for (const { name, dtype, bytes, crc32: checksum, shared } of announced) {
    const found = payload[name];
    if (!found || found.dtype !== dtype || found.bytes.length !== bytes || encodedBytes(dtype, found.length) !== bytes) return "size";
    if (checksum !== null && crc32(found.bytes) !== checksum) return "checksum";
    if (!shared || bytes === 0) continue;
    const lent = Buffer.alloc(bytes);
    readSync(shared.fd, lent, 0, bytes, shared.offset);
    if (!lent.equals(found.bytes)) return "shared memory";
  }
  return undefined;
}

/** Whether the condition holds immediately or within this many milliseconds. */
async function ends(isTrue: () => boolean, withinMs = 0): Promise<boolean> {
  const start = performance.now();
  await setImmediate();
  while (!isTrue() && performance.now() - start < withinMs) await wait(1);
  return isTrue();
}

function messagesOf({ steps }: Scenario): readonly Frames[] {
  return steps.filter((step) => typeof step !== "string");
}
