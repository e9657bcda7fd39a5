import { join } from "node:path";
import type { Adapter } from "../adapter/adapter.ts";
import { InterruptedError, WorkerError } from "../errors.ts";
import { type Borrow, describeTensors, lendTensors, splitTensors } from "../protocol/assembly.ts";
import { decodeWorkerMessage, encode } from "../protocol/codec.ts";
import { type ControllerMessage, CREDIT_BYTES, PROTOCOL_VERSION, type WorkerMessage, type WorkerMessageOf } from "../protocol/messages.ts";
import { borrowFrom, canShareWith, isGone, type SharedMemory } from "../transport/shared-memory.ts";
import type { Transport } from "../transport/transport.ts";
import { createInFlight } from "./in-flight.ts";
import { type AnswerMessage, type Attempt, createAttempt, type Receiving } from "./attempt.ts";
import { createCredit } from "./credit.ts";
import { createDeadline } from "./deadline.ts";
import { createDeferred } from "./deferred.ts";
import type { WorkerExit, WorkerLauncher } from "./launch.ts";
import { readLogTail } from "./log-tail.ts";
import type { Reply, Task, WorkerHello, WorkerState, WorkerStatus } from "./task.ts";

/** How workers are started, and how long they may be silent. */
export interface WorkerSettings {
  readonly launcher: WorkerLauncher;
  readonly transport: Transport;
  /** For tensors to workers that are processes of this machine. */
  readonly memory: SharedMemory;
  readonly threads: number;
  readonly logFolder: string;
  readonly startTimeoutMs: number;
  readonly beatTimeoutMs: number;
  readonly taskTimeoutMs: number;
}

/** One worker process, from its start to its end. */
export interface Worker {
  readonly id: string;
  /** Rejects, with the error of `ended`, if the worker never says hello. */
  readonly ready: Promise<WorkerHello>;
  /** Resolves once the process is gone, with why; undefined if it had been told to stop. Never rejects. */
  readonly ended: Promise<WorkerError | undefined>;
  status(): WorkerStatus;
  /**
   * Tries a task, after those it was given before, whose tensors travel meanwhile. What goes wrong with the worker itself
   * ends its process first. Resolves with undefined if the worker ended without having begun it.
   */
  run(task: Task, attempt: number): Promise<Reply | undefined>;
  /** Asks that what it was given, or this task of it, be dropped. It is ended if it has not within the time of a missed beat. */
  cancel(taskId?: string): void;
  /** It has been asked to drop what it does, and has not yet. */
  isCancelling(): boolean;
  /** Takes a frame that came from it. */
  receive(frame: Uint8Array): void;
  /** Asks the process to end, and ends it if it has not after the grace; called again, with another grace. */
  stop(graceMs: number): void;
  /** Ends the process at once, for this reason. */
  kill(problem: string, options?: ErrorOptions): void;
}

const SESSION = { protocol_version: PROTOCOL_VERSION } as const;

/** Launches a worker: starting → ready → busy → ready … → stopping → stopped | failed. `onStatus` hears of every change. */
export function createWorker(
  id: string,
  device: string,
  settings: WorkerSettings & Omit<Receiving, "borrow">,
  onStatus: (status: WorkerStatus) => void,
): Worker {
  const { launcher, transport, memory, buffers, turns, threads, logFolder, startTimeoutMs, beatTimeoutMs, taskTimeoutMs } = settings;
  const logPath = join(logFolder, `${id}.log`);
  const ready = createDeferred<WorkerHello>();
  const credit = createCredit(CREDIT_BYTES);
  let status: WorkerStatus = { workerId: id, state: "starting", activity: "starting", taskId: null, step: 0, steps: 0 };
  const inFlight = createInFlight();
  /** Those whose turn to be sent has not come. */
  const unsent = new Set<Attempt>();
  /** Those that it was asked to drop. */
  const cancelled = new Set<Attempt>();
  /** One task is sent whole before the next. */
  let lastSent: Promise<unknown> = Promise.resolve();
  /** The one that is being sent: its worker has to take it whole, also when it has answered already. */
  let outgoing: string | undefined;
  /** Reads what the worker's process shares with this one, if it does. */
  let borrow: Borrow | undefined;
  let fatal: { readonly problem: string; readonly options?: ErrorOptions | undefined } | undefined;
  let grace: NodeJS.Timeout | undefined;

  const seconds = (ms: number) => `${ms / 1000} s`;
  const startDeadline = createDeadline(startTimeoutMs, () => kill(`did not say hello within ${seconds(startTimeoutMs)} of its start`));
  const beatDeadline = createDeadline(beatTimeoutMs, () => kill(`was not heard of for ${seconds(beatTimeoutMs)}`));
  const taskDeadline = createDeadline(taskTimeoutMs, () => {
    const awaited = status.taskId ?? outgoing;
    if (awaited === undefined) return;
    // What it has delivered may wait for us.
    if (outgoing === undefined && inFlight.all().every((attempt) => attempt.isDelivered())) proceed();
    else kill(`made no progress in ${awaited} for ${seconds(taskTimeoutMs)}`);
  });

  const cancelDeadline = createDeadline(beatTimeoutMs, () =>
    kill(`did not drop ${status.taskId} within ${seconds(beatTimeoutMs)} of being asked to`),
  );

  const update = (changes: Partial<WorkerStatus>) => {
    const isNew = Object.entries(changes).some(([key, value]) => status[key as keyof WorkerStatus] !== value);
    status = { ...status, ...changes };
    if (isNew) onStatus(status);
    return isNew;
  };
  const enter = (state: WorkerState, activity: string) => {
    update({ state, activity, taskId: inFlight.current()?.taskId ?? null, step: 0, steps: 0 });
  };
  const send = (message: ControllerMessage) => transport.send(id, encode(message));
  /** For messages that a worker which is gone need not get: its end is told by its exit, or by its silence. */
  const tell = (message: ControllerMessage) => void send(message).catch(() => {});

  const door = transport.open(id);
  const child = launcher.launch({ workerId: id, endpoint: door.endpoint, curve: door.curve, device, threads, logPath });
  const ended = child.exited.then(end);
  startDeadline.restart();
  onStatus(status);

  function kill(problem: string, options?: ErrorOptions): void {
    if (status.state === "stopped" || status.state === "failed") return;
    fatal ??= { problem, options };
    if (status.state !== "stopping") enter("failed", problem);
    child.kill();
  }

  async function end(exit: WorkerExit): Promise<WorkerError | undefined> {
    door.close();
    const isStopped = status.state === "stopping";
    const problem = fatal?.problem ?? describeExit(exit, status);
    for (const deadline of [startDeadline, beatDeadline, taskDeadline, cancelDeadline]) deadline.clear();
    clearTimeout(grace);
    enter(isStopped ? "stopped" : "failed", isStopped ? "stopped" : problem);

    const details = {
      workerId: id,
      exitCode: exit.exitCode,
      // One of ours says nothing that the problem does not.
      signal: fatal ? undefined : exit.signal,
      isUncertain: !inFlight.isCertain(),
      logTail: await readLogTail(logPath).catch(() => undefined),
      logPath,
    };
    const error = new WorkerError(problem, details, fatal?.options);
    const reason = isStopped ? new InterruptedError(`worker ${id} was stopped`) : error;
    credit.close(reason);
    inFlight.close(reason);
    ready.reject(reason);
    return isStopped ? undefined : error;
  }
  // Whoever runs tasks waits for `ready`; when nobody does, its rejection is told by `ended` all the same.
  ready.promise.catch(() => {});

  function hello(message: WorkerMessageOf<"hello">): void {
    if (status.state !== "starting") return kill("said hello twice");
    startDeadline.clear();
    // A process that our launcher has not started itself may be one of that number on another machine.
    if (message.shares_memory && message.pid === child.pid && canShareWith(message.pid)) {
      const read = borrowFrom(message.pid);
      borrow = (tensors) =>
        read(tensors).catch(async (error: unknown) => {
          // What went with the process is not the fault of the task that had been done.
          if (isGone(message.pid)) await ended;
          throw error;
        });
    }
    enter("ready", "idle");
    ready.resolve({ workerId: id, pid: message.pid, versions: message.versions, device: message.device });
  }

  function beat({ activity, task_id, step, steps }: WorkerMessageOf<"beat">): void {
    if (task_id !== null) inFlight.begin(task_id);
    follow();
    // Between tasks a beat may still tell of the last one.
    const isCurrent = status.state === "busy" && (task_id === null || task_id === status.taskId);
    if (status.state !== "starting" && !isCurrent) return;
    if (update({ activity, step, steps }) && isCurrent) taskDeadline.restart();
  }

  function answer(message: AnswerMessage): void {
    inFlight.take(message);
    follow();
    proceed();
    // Chunks that were dropped count as consumed, or the worker would wait for ever.
    if (message.type === "chunk" && message.data.length > 0) tell({ ...SESSION, type: "credit", bytes: message.data.length });
  }

  function giveCredit(bytes: number): void {
    credit.give(bytes);
    proceed();
  }

  function proceed(): void {
    if (status.state === "busy" || outgoing !== undefined) taskDeadline.restart();
  }

  /** Once it may have another task to do, or none. */
  function follow(): void {
    const taskId = inFlight.current()?.taskId ?? null;
    if (!isServing(status) || taskId === status.taskId) return;
    enter(taskId === null ? "ready" : "busy", taskId ?? "idle");
    if (taskId !== null) taskDeadline.restart();
    else if (outgoing === undefined) taskDeadline.clear();
  }

  /** Gives the function to be called once the worker reads nothing of it any more. */
  async function sendTask({ id: task_id, request, payload }: Task, attempt: number): Promise<() => void> {
    const envelope = { ...SESSION, task_id, attempt };
    const lent = payload && borrow ? await lendTensors(payload, memory.lend) : undefined;
    try {
      outgoing = task_id;
      if (request.type === "fit" || request.type === "evaluate") {
        const tensors = payload ? (lent?.descriptors ?? describeTensors(payload)) : [];
        await send({ ...envelope, ...request, tensors: [...tensors] });
        if (payload && !lent) await sendTensors(payload, envelope);
      } else await send({ ...envelope, ...request });
    } catch (error) {
      lent?.release();
      throw error;
    } finally {
      outgoing = undefined;
    }
    return lent?.release ?? (() => {});
  }

  async function sendTensors(
    payload: Adapter,
    envelope: typeof SESSION & { readonly task_id: string; readonly attempt: number },
  ): Promise<void> {
    for (const chunk of splitTensors(payload)) {
      await credit.take(chunk.data.length);
      await send({ ...envelope, type: "chunk", ...chunk });
    }
    await send({ ...envelope, type: "end" });
  }

  return {
    id,
    ready: ready.promise,
    ended,
    kill,
    status: () => status,
    async run(task, number) {
      if (!isServing(status)) return undefined;
      const attempt = createAttempt(task, number, id, { buffers, turns, borrow });
      inFlight.add(attempt);
      unsent.add(attempt);
      follow();
      const answered = attempt.reply.finally(() => {
        inFlight.remove(attempt);
        if (cancelled.delete(attempt) && cancelled.size === 0) cancelDeadline.clear();
        follow();
      });
      const sending = lastSent.then(() => {
        unsent.delete(attempt);
        return attempt.isOver() ? () => {} : sendTask(task, number);
      });
      const sent = sending.catch((cause: unknown) => kill(`could not be sent ${task.id}`, { cause }));
      lastSent = sent;
      // Also when the answer came early, as a failure does: what was begun is sent whole, and the next task goes after it.
      const [reply] = await Promise.allSettled([answered, sent]);
      (await sent)?.();
      if (reply.status === "rejected") throw reply.reason;
      return reply.value;
    },
    cancel(taskId) {
      for (const attempt of inFlight.all().filter((given) => taskId === undefined || given.taskId === taskId)) {
        if (unsent.has(attempt)) attempt.fail(new InterruptedError(`${attempt.taskId} was cancelled before worker ${id} had it`));
        else {
          tell({ ...SESSION, type: "cancel", task_id: attempt.taskId, attempt: attempt.number });
          if (cancelled.size === 0) cancelDeadline.restart();
          cancelled.add(attempt);
        }
      }
    },
    isCancelling: () => cancelled.size > 0,
    receive(frame) {
      if (status.state === "failed" || status.state === "stopped") return;
      beatDeadline.restart();
      try {
        const message: WorkerMessage = decodeWorkerMessage(frame);
        if (message.type === "hello") hello(message);
        else if (message.type === "beat") beat(message);
        else if (message.type === "credit") giveCredit(message.bytes);
        else answer(message);
      } catch (cause) {
        kill(`sent what is refused: ${(cause as Error).message}`, { cause });
      }
    },
    stop(graceMs) {
      if (status.state === "stopped" || status.state === "failed") return;
      clearTimeout(grace);
      // One that has not said hello has nothing to finish, and may not be connected yet.
      const isAtOnce = graceMs === 0 || status.state === "starting";
      if (isAtOnce) child.kill();
      else grace = setTimeout(() => child.kill(), graceMs);
      if (status.state === "stopping") return;
      enter("stopping", "stopping");
      if (!isAtOnce) tell({ ...SESSION, type: "stop" });
    },
  };
}

/** It takes tasks. */
export function isServing({ state }: WorkerStatus): boolean {
  return state === "ready" || state === "busy";
}

function describeExit({ exitCode, signal, problem }: WorkerExit, { state, taskId }: WorkerStatus): string {
  if (problem !== undefined) return `could not be started: ${problem}`;
  const how = signal === undefined ? `exited with code ${exitCode}` : `was ended by ${signal}`;
  const hint = signal === "SIGKILL" ? ", which the kernel also sends when memory runs out" : "";
  if (taskId !== null) return `${how} in ${taskId}${hint}`;
  return state === "starting" ? `${how} before it said hello${hint}` : `${how} unasked${hint}`;
}
