import { setMaxListeners } from "node:events";
import { InterruptedError, PrelortError, WorkerError } from "../errors.ts";
import { exceptionOf } from "../telemetry/describe-error.ts";
import { orAborted } from "../base/abort.ts";
import { SESSION } from "../protocol/limits.ts";
import type { Lease, Slot } from "./slot.ts";
import { Supervisor, type SupervisorOptions } from "./supervisor.ts";
import { isServing, type Reply, type Task, type TaskFailure, type TaskType, type WorkerPool } from "./task.ts";

export interface PoolOptions extends SupervisorOptions {
  /** How often a failed task is retried. */
  readonly retries: number;
  /** When aborted, all tasks reject with an InterruptedError, and workers are asked to drop them. */
  readonly signal?: AbortSignal;
}

/** The outcome of one attempt: a reply, an error, or neither if the worker ended before it began. */
interface Outcome {
  readonly lease: Lease;
  readonly reply?: Reply;
  readonly error?: Error;
}

/** Conditions of the next attempt. */
interface Terms {
  /** The slot to avoid if there is another one. */
  readonly avoid: Slot | undefined;
  readonly exclusive: boolean;
}

/** Machines that may be lost during a task before each further one counts as a failure of the task. */
const MOST_LOSSES = 10;
/** How long a worker that was asked to stop has to end. */
const STOP_GRACE_MS = 5000;

/** Reads everything that arrives on the transport. The owner of the transport closes it, after the pool. */
export function createWorkerPool(options: PoolOptions): WorkerPool {
  return new Pool(options);
}

class Pool implements WorkerPool {
  readonly #options: PoolOptions;
  readonly #supervisor: Supervisor;
  /** Aborted once nothing may run any more, for whatever reason. */
  readonly #shutdown = new AbortController();
  /** Aborted when that was requested: then nobody waits for running tasks. */
  readonly #interruption = new AbortController();
  readonly #interrupt = () => {
    this.#end(new InterruptedError());
    this.#supervisor.cancel();
  };

  constructor(options: PoolOptions) {
    const { signal } = options;
    this.#options = options;
    setMaxListeners(0, this.#interruption.signal);
    this.#supervisor = new Supervisor(options, this.#shutdown);
    if (signal?.aborted) this.#interrupt();
    signal?.addEventListener("abort", this.#interrupt, { once: true });
  }

  start(): Promise<void> {
    return this.#supervisor.start();
  }

  async run<T extends TaskType>(task: Task<T>): Promise<Reply<T>> {
    const done = orAborted(this.#tryUntilDone(task as unknown as Task), this.#interruption.signal);
    return (await (task.signal ? orAborted(done, task.signal) : done)) as unknown as Reply<T>;
  }

  async runOn<T extends TaskType>(workerId: string, task: Task<T>): Promise<Reply<T> | undefined> {
    const worker = this.#supervisor.worker(workerId);
    const { signal } = this.#interruption;
    if (!worker) return undefined;
    try {
      const reply = await orAborted(worker.run(task as unknown as Task, 1), signal);
      if (reply) await lookAt(task as unknown as Task, reply, signal);
      return reply as unknown as Reply<T> | undefined;
    } catch (error) {
      signal.throwIfAborted();
      if (!isServing(worker.status())) return undefined;
      const failed = task as unknown as Task;
      if (!(error instanceof InterruptedError)) this.#failed(failed, { attempt: 1, workerId, error: error as Error, willRetry: false });
      throw error;
    }
  }

  grant(workerId: string, { task_id, attempt }: Pick<Reply<"fit">["message"], "task_id" | "attempt">, weight: number | null): void {
    // Not before the request for an earlier sum, which waits for a task that is being sent.
    this.#supervisor.worker(workerId)?.tell({ ...SESSION, type: "grant", task_id, attempt, weight }, { isInTurn: true });
  }

  async ended(workerId: string): Promise<void> {
    await this.#supervisor.worker(workerId)?.ended;
  }

  async onEveryWorker<T extends TaskType>(task: Task<T>): Promise<Reply<T>> {
    return (await this.#supervisor.prepare(task as unknown as Task)) as unknown as Reply<T>;
  }

  async close({ now = false } = {}): Promise<void> {
    this.#options.signal?.removeEventListener("abort", this.#interrupt);
    this.#end(new InterruptedError("the worker pool was closed"));
    await this.#supervisor.stop(now ? 0 : STOP_GRACE_MS);
  }

  #end(reason: InterruptedError): void {
    this.#interruption.abort(reason);
    this.#shutdown.abort(reason);
  }

  async #tryUntilDone(task: Task): Promise<Reply> {
    let terms: Terms = { avoid: undefined, exclusive: false };
    let [failures, losses] = [0, 0];
    for (let number = task.firstAttempt ?? 1; ;) {
      const { lease, reply, error } = await this.#tryOnce(task, number, terms);
      this.#interruption.signal.throwIfAborted();
      if (reply) return reply;
      task.signal?.throwIfAborted();
      // Whatever ended this attempt, the next one has its worker to itself.
      terms = { avoid: error && lease.slot, exclusive: true };
      if (!error) continue;
      const { isUncertain, isLost } = error instanceof WorkerError ? error.details : {};
      // Does not count if another task may have caused it. The next attempt has its worker to itself, so the cause is certain.
      // Nor does a lost machine, unless this task seems to be what machines are lost over.
      if (!isUncertain && !(isLost && ++losses <= MOST_LOSSES)) failures++;
      const isFinal = isNobodysFault(error) || failures > this.#options.retries;
      const willRetry = !isFinal && !this.#shutdown.signal.aborted;
      this.#failed(task, { attempt: number, workerId: lease.worker.id, error, willRetry });
      if (isFinal) throw error;
      number++;
    }
  }

  #failed({ identity, id, span }: Task, failure: Omit<TaskFailure, "task" | "taskId">): void {
    const { attempt, workerId, error, willRetry } = failure;
    const where = { "prelort.attempt": attempt, "prelort.worker.id": workerId, "prelort.will_retry": willRetry };
    span?.event("exception", { ...exceptionOf(error), ...where });
    this.#options.listener?.failure?.({ task: identity, taskId: id, ...failure });
  }

  async #tryOnce(task: Task, number: number, { avoid, exclusive }: Terms): Promise<Outcome> {
    const { signal } = task;
    const since = performance.now();
    const lease = await this.#supervisor.acquire({ priority: task.priority ?? 0, avoid, exclusive, signal });
    this.#options.listener?.assigned?.(task, (performance.now() - since) / 1000);
    const cancel = () => lease.worker.cancel(task.id);
    signal?.addEventListener("abort", cancel, { once: true });
    try {
      // What it may end must not be a sum that it was asked for.
      if (exclusive) await lease.worker.idle();
      signal?.throwIfAborted();
      const reply = await lease.worker.run(task, number);
      if (reply) await lookAt(task, reply, this.#interruption.signal);
      this.#supervisor.release(lease, { isCompleted: reply !== undefined });
      return reply ? { lease, reply } : { lease };
    } catch (error) {
      const isLost = error instanceof WorkerError && error.details.isLost;
      this.#supervisor.release(lease, { isCompleted: false, failed: task.id, isLost });
      return { lease, error: error as Error };
    } finally {
      signal?.removeEventListener("abort", cancel);
    }
  }
}

/** An error of neither the worker nor the client: another attempt would end the same way. */
function isNobodysFault(error: Error): boolean {
  return error instanceof PrelortError && ["config", "environment", "run"].includes(error.kind);
}

async function lookAt(task: Task, reply: Reply, signal: AbortSignal): Promise<void> {
  let isForgotten = false;
  try {
    signal.throwIfAborted();
    isForgotten = (await task.accept?.(reply)) ?? false;
  } finally {
    reply.close(isForgotten);
  }
}
