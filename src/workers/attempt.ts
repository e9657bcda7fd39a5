import type PQueue from "p-queue";
import { formatPath, parsePath } from "../config/check.ts";
import { ConfigError, InterruptedError, RefusedError, WorkerError } from "../errors.ts";
import { type Assembler, type Borrow, createAssembler } from "../protocol/tensor-chunks.ts";
import type { WorkerMessage, WorkerMessageOf } from "../protocol/messages.ts";
import type { Buffers } from "./buffers.ts";
import { createDeferred } from "../base/deferred.ts";
import type { Reply, Task } from "./task.ts";

/** One try of a task on one worker, as its answer comes in: a message, its tensors' chunks, an end. */
export interface Attempt {
  readonly task: Task["identity"];
  readonly taskId: string;
  readonly number: number;
  /** Rejects with what the worker reported, or with what was wrong about its answer; undefined if it was given back. */
  readonly reply: Promise<Reply | undefined>;
  /** Takes a message if it belongs to this try and it is not over yet; others are late or doubled, and dropped. */
  take(message: AnswerMessage): void;
  /** Its answer has come, but for the tensors. */
  isAnswered(): boolean;
  /** Nothing of it is still to come from the worker. */
  isDelivered(): boolean;
  isOver(): boolean;
  fail(error: Error): void;
  /** Nothing came of it, and it was not its fault: it may be made again, under the same number, by another worker. */
  requeue(): void;
}

export type AnswerMessage = Exclude<WorkerMessage, WorkerMessageOf<"hello" | "beat" | "credit">>;

/** What an answer's tensors are received with. */
export interface Receiving {
  readonly buffers: Buffers;
  /** Those in shared memory wait there until the ones before them have been looked at. */
  readonly turns: PQueue;
  /** From the worker's process, if it shares memory with this one. */
  readonly borrow: Borrow | undefined;
}

/** Of the config: what a fault in the input is a fault of. */
const SECTIONS = { prepare: "data", load: "model", fit: "fit", evaluate: "evaluate" } as const;
const ANSWERS = { prepare: "prepared", load: "loaded", fit: "fitted", evaluate: "evaluated" } as const;

export function createAttempt(task: Task, number: number, workerId: string, { buffers, turns, borrow }: Receiving): Attempt {
  const { promise, resolve, reject } = createDeferred<Reply | undefined>();
  let header: { readonly message: Reply["message"]; readonly assembler: Assembler } | undefined;
  /** Whoever takes the reply has looked at it, or nobody will. */
  const closed = createDeferred<void>();
  let taken: readonly Uint8Array<ArrayBuffer>[] = [];
  let isOver = false;

  const fail = (error: Error) => {
    isOver = true;
    reject(error);
  };
  const requeue = () => {
    isOver = true;
    resolve(undefined);
  };
  const finish = () => {
    if (!header) throw new RefusedError(`the end of ${task.id}`, "after an answer", "before one");
    const payload = header.assembler.finish();
    isOver = true;
    const close = (isForgotten: boolean) => {
      if (isForgotten) for (const buffer of taken) buffers.give(buffer);
      taken = [];
      closed.resolve();
    };
    resolve({ workerId, attempt: number, message: header.message, payload, close });
  };
  const allocate = (bytes: number) => {
    const buffer = buffers.take(bytes);
    taken = [...taken, buffer];
    return buffer;
  };
  /** What will not be read: the worker may use its memory again. */
  const handBack = (message: AnswerMessage) => {
    const tensors = "tensors" in message ? message.tensors : [];
    const lent = tensors.flatMap(({ shared }) => (shared ? [{ from: shared, into: new Uint8Array(0) }] : []));
    if (borrow && lent.length > 0) borrow(lent).catch(() => {});
  };
  const copyShared = (message: AnswerMessage, assembler: Assembler) => {
    if (!borrow) throw new RefusedError(`the tensors of ${task.id}`, "in chunks", "in memory that is not shared");
    void turns.add(async () => {
      try {
        if (isOver) handBack(message);
        else await assembler.copy(borrow);
        if (!isOver) finish();
        else closed.resolve();
      } catch (error) {
        fail(error as Error);
        closed.resolve();
      }
      await closed.promise;
    });
  };
  const answer = (message: Exclude<AnswerMessage, WorkerMessageOf<"chunk" | "end">>) => {
    if (header) throw new RefusedError(`the answer to ${task.id}`, "one", `${message.type} after ${header.message.type}`);
    if (message.type === "failure") throw reported(message, task, workerId);
    const expected = ANSWERS[task.request.type];
    if (message.type !== expected) throw new RefusedError(`the answer to ${task.id}`, expected, message.type);
    const tensors = "tensors" in message ? message.tensors : [];
    const assembler = createAssembler(tensors, task.expect ?? {}, { dtype: task.dtype, allocate });
    header = { message, assembler };
    if (tensors.length === 0) finish();
    else if (assembler.isShared) copyShared(message, assembler);
  };

  return {
    task: task.identity,
    taskId: task.id,
    number,
    reply: promise,
    fail,
    requeue,
    isAnswered: () => header !== undefined,
    isOver: () => isOver,
    isDelivered: () => isOver || (header?.assembler.isShared ?? false),
    take(message) {
      if (message.task_id !== task.id || message.attempt !== number) return;
      if (isOver) return handBack(message);
      try {
        const isPart = message.type === "chunk" || message.type === "end";
        // It would go where the tensors are being copied to, and nothing vouches for it.
        if (isPart && header?.assembler.isShared) throw new RefusedError(`the tensors of ${task.id}`, "in shared memory", message.type);
        if (message.type === "end") finish();
        else if (message.type !== "chunk") answer(message);
        else if (header) header.assembler.write(message);
        else throw new RefusedError(`a chunk for ${task.id}`, "after an answer", "before one");
      } catch (error) {
        fail(error as Error);
        handBack(message);
      }
    },
  };
}

function reported({ error }: WorkerMessageOf<"failure">, task: Task, workerId: string): Error {
  if (error.kind === "cancelled") return new InterruptedError(`${task.id} was cancelled on worker ${workerId}`);
  // What the user has to mend reads like any other fault of the config; of the rest the traceback tells.
  if (error.kind === "InputError") {
    const found = error.problems.length > 0 ? error.problems : [{ option: null, message: error.message }];
    // As a program wrote it; of a file, whoever read it knows its spelling and places.
    const pathOf = (option: string) => formatPath(parsePath(option), "camelCase");
    return new ConfigError(found.map(({ option, message }) => ({ path: pathOf(option ?? SECTIONS[task.request.type]), message })));
  }
  return new WorkerError(`${task.id} failed: ${error.kind}: ${error.message}`, { workerId, traceback: error.traceback });
}
