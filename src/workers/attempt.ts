import type PQueue from "p-queue";
import { formatPath, parsePath } from "../config/check.ts";
import { ConfigError, InterruptedError, RefusedError, WorkerError } from "../errors.ts";
import { type Assembler, type Borrow, createAssembler } from "../protocol/tensor-chunks.ts";
import type { WorkerMessage, WorkerMessageOf } from "../protocol/messages.ts";
import type { Buffers } from "./buffers.ts";
import { createDeferred } from "../base/deferred.ts";
import type { WireDtype } from "../tensor/encoded.ts";
import type { Reply, Task } from "./task.ts";

/** What belongs to a task. */
export type AnswerMessage = Exclude<Extract<WorkerMessage, { task_id: string; attempt: number }>, WorkerMessageOf<"kept">>;

/** A worker, as errors name it. */
export interface WorkerName {
  readonly workerId: string;
  /** Of a worker that runs elsewhere. */
  readonly host: string | undefined;
}

/** What is needed to receive an answer's tensors. */
export interface Receiving {
  readonly buffers: Buffers;
  /** Answers in shared memory wait there until earlier ones have been processed. */
  readonly turns: PQueue;
  /** Reads the worker's memory, if it shares any with this process. */
  readonly borrow: Borrow | undefined;
}

/** The config section to name when an input error carries no key. */
const SECTIONS = { prepare: "data", load: "model", fit: "fit", collect: "fit", evaluate: "evaluate", generate: "prompt" } as const;
const ANSWERS = {
  prepare: "prepared",
  load: "loaded",
  fit: "fitted",
  collect: "collected",
  evaluate: "evaluated",
  generate: "generated",
} as const;

/** One attempt of a task on one worker, while its answer arrives: a message, its tensors' chunks, an end. */
export class Attempt {
  readonly task: Task["identity"];
  readonly taskId: string;
  readonly number: number;
  readonly #task: Task;
  readonly #worker: WorkerName;
  readonly #receiving: Receiving;
  readonly #reply = createDeferred<Reply | undefined>();
  #header: { readonly message: Reply["message"]; readonly assembler: Assembler<WireDtype> } | undefined;
  /** Resolves once the reply has been processed, or will not be. */
  readonly #closed = createDeferred<void>();
  #taken: readonly Uint8Array<ArrayBuffer>[] = [];
  #isOver = false;

  constructor(task: Task, number: number, worker: WorkerName, receiving: Receiving) {
    this.task = task.identity;
    this.taskId = task.id;
    this.number = number;
    this.#task = task;
    this.#worker = worker;
    this.#receiving = receiving;
  }

  /** Rejects with what the worker reported, or with what was wrong about its answer; undefined if it was requeued. */
  get reply(): Promise<Reply | undefined> {
    return this.#reply.promise;
  }

  /** The answer has arrived, though perhaps not all of its tensors. */
  isAnswered(): boolean {
    return this.#header !== undefined;
  }

  /** The worker has nothing left to send. */
  isDelivered(): boolean {
    return this.#isOver || this.#isShared();
  }

  isOver(): boolean {
    return this.#isOver;
  }

  fail(error: Error): void {
    this.#isOver = true;
    this.#reply.reject(error);
  }

  /** It failed through no fault of its own: another worker may try it under the same number. */
  requeue(): void {
    this.#isOver = true;
    this.#reply.resolve(undefined);
  }

  /** Handles a message if it belongs to this attempt and the attempt is not over; others are late or duplicates, and dropped. */
  take(message: AnswerMessage): void {
    if (message.task_id !== this.taskId || message.attempt !== this.number) return;
    if (this.#isOver) return this.#handBack(message);
    try {
      if (message.type === "chunk" || message.type === "end") this.#takePart(message);
      else if (message.type === "text") this.#hear(message);
      else this.#answer(message);
    } catch (error) {
      this.fail(error as Error);
      this.#handBack(message);
    }
  }

  #isShared(): boolean {
    return this.#header?.assembler.isShared ?? false;
  }

  #hear(message: WorkerMessageOf<"text">): void {
    const { request, hear } = this.#task;
    if (request.type !== "generate") throw new RefusedError(`the answer to ${this.taskId}`, ANSWERS[request.type], "text");
    hear?.(message);
  }

  #takePart(message: WorkerMessageOf<"chunk" | "end">): void {
    // It would overwrite the tensors that are being copied, without any check.
    if (this.#isShared()) throw new RefusedError(`the tensors of ${this.taskId}`, "in shared memory", message.type);
    if (message.type === "end") this.#finish();
    else if (this.#header) this.#header.assembler.write(message);
    else throw new RefusedError(`a chunk for ${this.taskId}`, "an answer before it", "none");
  }

  #answer(message: Exclude<AnswerMessage, WorkerMessageOf<"chunk" | "end" | "text">>): void {
    const [subject, before] = [`the answer to ${this.taskId}`, this.#header];
    if (before) throw new RefusedError(subject, "one", `${message.type} after ${before.message.type}`);
    if (message.type === "failure") throw reported(message, this.#task, this.#worker);
    const { request, expect = {}, dtypes } = this.#task;
    if (message.type !== ANSWERS[request.type]) throw new RefusedError(subject, ANSWERS[request.type], message.type);
    const tensors = "tensors" in message ? message.tensors : [];
    const shapes = typeof expect === "function" ? expect(message) : expect;
    const assembler = createAssembler<WireDtype>(tensors, shapes, { dtypes, allocate: (bytes) => this.#allocate(bytes) });
    this.#header = { message, assembler };
    if (tensors.length === 0) this.#finish();
    else if (assembler.isShared) this.#copyShared(message, assembler);
  }

  #copyShared(message: AnswerMessage, assembler: Assembler<WireDtype>): void {
    const { borrow, turns } = this.#receiving;
    if (!borrow) throw new RefusedError(`the tensors of ${this.taskId}`, "chunks", "references to memory that is not shared");
    void turns.add(async () => {
      try {
        if (this.#isOver) this.#handBack(message);
        else await assembler.copy(borrow);
        if (!this.#isOver) this.#finish();
        else this.#closed.resolve();
      } catch (error) {
        this.fail(error as Error);
        this.#closed.resolve();
      }
      await this.#closed.promise;
    });
  }

  #finish(): void {
    if (!this.#header) throw new RefusedError(`the end of ${this.taskId}`, "an answer before it", "none");
    const { message, assembler } = this.#header;
    const payload = assembler.finish() as Reply["payload"];
    this.#isOver = true;
    const close = (isForgotten: boolean) => {
      if (isForgotten) for (const buffer of this.#taken) this.#receiving.buffers.give(buffer);
      this.#taken = [];
      this.#closed.resolve();
    };
    this.#reply.resolve({ workerId: this.#worker.workerId, attempt: this.number, message, payload, close });
  }

  #allocate(bytes: number): Uint8Array<ArrayBuffer> {
    const buffer = this.#receiving.buffers.take(bytes);
    this.#taken = [...this.#taken, buffer];
    return buffer;
  }

  /** Tells the worker that it may reuse the memory of tensors that will not be read. */
  #handBack(message: AnswerMessage): void {
    const { borrow } = this.#receiving;
    const tensors = "tensors" in message ? message.tensors : [];
    const lent = tensors.flatMap(({ shared }) => (shared ? [{ from: shared, into: new Uint8Array(0) }] : []));
    if (borrow && lent.length > 0) borrow(lent).catch(() => {});
  }
}

/** The worker lacks what a task before this one makes on its machine. */
export class UnpreparedError extends WorkerError {}

/** The worker could not read what another worker of its machine lent it: a fault of neither the task nor the client. */
export class UnsharedError extends WorkerError {}

function reported({ error }: WorkerMessageOf<"failure">, task: Task, worker: WorkerName): Error {
  if (error.kind === "cancelled") return new InterruptedError(`${task.id} was cancelled on worker ${worker.workerId}`);
  // Errors that the user has to fix become problems of the config; others carry their traceback.
  if (error.kind === "input") {
    const found = error.problems.length > 0 ? error.problems : [{ option: null, message: error.message }];
    // In TypeScript's spelling; the reader of a config file adds that file's spelling and line numbers.
    const pathOf = (option: string) => formatPath(parsePath(option), "camelCase");
    return new ConfigError(found.map(({ option, message }) => ({ path: pathOf(option ?? SECTIONS[task.request.type]), message })));
  }
  if (error.kind === "unshared") return new UnsharedError(`${task.id} failed: ${error.message}`, worker);
  if (error.kind === "unprepared") return new UnpreparedError(`${task.id} failed: ${error.message}`, worker);
  return new WorkerError(`${task.id} failed: ${error.message}`, { ...worker, traceback: error.traceback });
}
