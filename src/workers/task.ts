import type { Adapter } from "../adapter/adapter.ts";
import type { Dtype, IntegerDtype, WireDtype } from "../tensor/encoded.ts";
import type { Span } from "../telemetry/telemetry.ts";
import type { ControllerMessageOf, WorkerMessageOf } from "../protocol/messages.ts";
import type { Assembler, ExpectedShapes } from "../protocol/tensor-chunks.ts";

/** A reply's tensors by name, in their wire encoding. */
export type Payload<D extends WireDtype = Dtype> = Readonly<ReturnType<Assembler<D>["finish"]>>;

export type TaskType = "prepare" | "load" | "fit" | "collect" | "evaluate" | "generate";
type Envelope = "protocol_version" | "task_id" | "attempt" | "traceparent" | "tensors";
type ReplyType = {
  prepare: "prepared";
  load: "loaded";
  fit: "fitted";
  collect: "collected";
  evaluate: "evaluated";
  generate: "generated";
};

/** A request to a worker: the message without its envelope, which the pool fills in. */
export type TaskRequest<T extends TaskType = TaskType> = { [K in T]: Omit<ControllerMessageOf<K>, Envelope> }[T];

/** What a task is for. */
export interface TaskIdentity {
  /**
   * `evaluate` on examples held out from all clients, `evaluate-merged` of the merged model, `evaluate-client` on a client's own
   * examples, `ask` for a candidate's loss, `measure` for a plan.
   */
  readonly kind: TaskType | "evaluate-merged" | "evaluate-client" | "ask" | "measure";
  readonly round?: number;
  readonly clientId?: string;
  /** Tells apart tasks that are otherwise the same, such as the shards of an evaluation. */
  readonly part?: number | string;
}

/** A task's identity, and its id on the wire, such as `round-3/fit/c07`. */
export function named(identity: TaskIdentity): Pick<Task, "identity" | "id"> {
  const { kind, round, clientId, part } = identity;
  const parts = [round === undefined ? undefined : `round-${round}`, kind, clientId, part];
  return { identity, id: parts.filter((name) => name !== undefined).join("/") };
}

type DtypeOf<T extends TaskType> = T extends "collect" ? IntegerDtype : T extends "prepare" ? "U8" : T extends "evaluate" ? "F64" : Dtype;

export interface Reply<T extends TaskType = TaskType> {
  readonly workerId: string;
  readonly attempt: number;
  readonly message: WorkerMessageOf<ReplyType[T]>;
  /** Whole, in owned buffers. */
  readonly payload: Payload<DtypeOf<T>>;
  /** Call it once the reply has been processed. If its payload is no longer needed, the memory is reused. */
  close(isForgotten: boolean): void;
}

export interface Task<T extends TaskType = TaskType> {
  readonly identity: TaskIdentity;
  /** Made from its identity by `named`: unique in the run, the wire's `task_id`, and readable. */
  readonly id: string;
  readonly request: TaskRequest<T>;
  /**
   * Sent as `rows` [r, width] and, unless they are empty, `dense` [size] and `merged` [n, width]. Tasks with the same values
   * should share one object, so that its checksums are computed once; its values must never change afterwards.
   */
  readonly payload?: Adapter;
  /** Reads what is sent as `state` beside the payload, once its turn has come, so that memory holds only what is on its way. */
  readonly readState?: (() => Promise<Uint8Array>) | undefined;
  /**
   * Shape [rows, columns] or [length] each reply tensor must have, by name; anything else is refused before memory is taken. A
   * function is given the reply's message, on which the shapes may depend.
   */
  readonly expect?: ExpectedShapes | ((message: Reply<T>["message"]) => ExpectedShapes);
  /** The dtypes that the reply's tensors may have, F32 by default; any other is refused. */
  readonly dtypes?: readonly DtypeOf<T>[];
  /**
   * Processes a reply; called last, once for each. An error it throws fails the attempt; otherwise the reply counts. It
   * returns whether the payload is no longer needed. A reply in shared memory is fetched only after earlier ones have been
   * processed.
   */
  accept?(reply: Reply<T>): void | Promise<boolean>;
  /** Hears the texts that come before the reply of a `generate`; another attempt begins them anew. An error fails the attempt. */
  hear?(text: WorkerMessageOf<"text">): void;
  /** Number of its first attempt, 1 by default: later than those of an earlier run of the same task. */
  readonly firstAttempt?: number;
  /** Larger is served first. */
  readonly priority?: number;
  /** What a worker does first if it answers that it is unprepared: as on a machine that lacks the prepared data. */
  readonly repair?: Task;
  /**
   * Of what every worker does: the next that is replaceable takes its place, and if the first worker fails it, all go on without it.
   */
  readonly isReplaceable?: boolean;
  /** Once aborted, its run rejects with the reason, and a running attempt is cancelled. */
  readonly signal?: AbortSignal;
  /** What the task is a part of. Failed attempts are events of it. */
  readonly span?: Span | undefined;
}

/** A failed attempt. `willRetry` says whether another follows. */
export interface TaskFailure {
  readonly task: TaskIdentity;
  readonly taskId: string;
  readonly attempt: number;
  readonly workerId: string;
  readonly error: Error;
  readonly willRetry: boolean;
}

export type WorkerState = "starting" | "ready" | "busy" | "stopping" | "stopped" | "failed";

/** One worker's status, for display. */
export interface WorkerStatus {
  readonly workerId: string;
  readonly state: WorkerState;
  /** Such as `importing torch`, `loading the model`, `fit c03`, `idle`. */
  readonly activity: string;
  /** Its current task; null if there is none. */
  readonly task: TaskIdentity | null;
  readonly taskId: string | null;
  readonly step: number;
  readonly steps: number;
}

/** Whether it takes tasks. */
export function isServing({ state }: WorkerStatus): boolean {
  return state === "ready" || state === "busy";
}

export interface WorkerHello {
  readonly workerId: string;
  readonly pid: number;
  /** The name of its machine. */
  readonly host: string;
  readonly versions: Readonly<Record<string, string>>;
  /** Environment variables by which its libraries choose their kernels. */
  readonly variables: Readonly<Record<string, string>>;
  readonly device: {
    readonly type: string;
    readonly name: string;
    /** The instruction set that kernels may use, in torch's terms; null if there is no choice. */
    readonly capability: string | null;
    readonly memoryBytes: number | null;
  };
}

export interface PoolListener {
  ready?(worker: WorkerHello): void;
  status?(status: WorkerStatus): void;
  /** An attempt has waited so long for its worker. */
  assigned?(task: Pick<Task, "identity" | "id">, seconds: number): void;
  failure?(failure: TaskFailure): void;
  /** A worker slot was disabled: too many workers crashed there in a row. */
  givenUp?(slot: { readonly workerId: string; readonly device: string; readonly error: Error }): void;
}

/** A handful of workers that take tasks in order of priority. */
export interface WorkerPool {
  /** Spawns the workers. Resolves when the first is ready for a task; rejects when one cannot come up. */
  start(): Promise<void>;
  /**
   * Runs a task on the next free worker. A failed attempt is retried up to `retries` times, on another worker if there is
   * one. Rejects with the last attempt's error.
   */
  run<T extends TaskType>(task: Task<T>): Promise<Reply<T>>;
  /**
   * Runs a task once, on the worker of that id, after those that it has. Rejects with what failed; resolves with undefined if the
   * worker is gone, or ends first.
   */
  runOn<T extends TaskType>(workerId: string, task: Task<T>): Promise<Reply<T> | undefined>;
  /** Tells a worker what to do with the update of a fit that it holds. Nothing happens if the worker is gone. */
  grant(workerId: string, fit: Pick<Reply<"fit">["message"], "task_id" | "attempt">, weight: number | null): void;
  /** Resolves once the worker of that id is gone. */
  ended(workerId: string): Promise<void>;
  /**
   * Has every worker, present or restarted, do this (such as loading the model) before any later task. Resolves with the
   * first reply; a worker fails if `accept` refuses its reply.
   */
  onEveryWorker<T extends TaskType>(task: Task<T>): Promise<Reply<T>>;
  /** Asks every worker to end, then kills it. Safe to call twice. No process is left when it resolves. */
  close(options?: { readonly now?: boolean }): Promise<void>;
}
