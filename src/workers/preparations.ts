import { createDeferred, type Deferred } from "../base/deferred.ts";
import { UnpreparedError } from "./attempt.ts";
import type { PoolListener, Reply, Task } from "./task.ts";
import { isServing } from "./task.ts";
import type { Worker } from "./worker.ts";

interface Preparation {
  readonly task: Task;
  readonly first: Deferred<Reply>;
  attempts: number;
  /** A worker has done it. */
  isDone: boolean;
  /** Workers no longer do it. */
  isReplaced: boolean;
}

/** Tasks that every worker does, in this order, before any other. */
export class Preparations {
  readonly #shutdown: AbortSignal;
  readonly #listener: PoolListener | undefined;
  readonly #all: Preparation[] = [];

  constructor(shutdown: AbortSignal, listener: PoolListener | undefined) {
    this.#shutdown = shutdown;
    this.#listener = listener;
  }

  get count(): number {
    return this.#all.length;
  }

  /** Resolves with the first reply. */
  add(task: Task): Promise<Reply> {
    const first = createDeferred<Reply>();
    for (const earlier of this.#all) earlier.isReplaced ||= (task.isReplaceable && earlier.task.isReplaceable) ?? false;
    this.#all.push({ task, first, attempts: 0, isDone: false, isReplaced: false });
    return first.promise;
  }

  reject(reason: unknown): void {
    for (const { first } of this.#all) first.reject(reason);
  }

  /**
   * Has a worker do one of them. Resolves with whether it may go on. A worker that fails but is alive is ended, except for a task
   * that is replaceable and that no worker has done: nobody does that one any more.
   */
  async run(index: number, worker: Worker): Promise<boolean> {
    const preparation = this.#all[index];
    if (!preparation) return false;
    if (preparation.isReplaced) return true;
    const { task, first } = preparation;
    // Other workers count up meanwhile.
    let attempt = 0;
    const tryOnce = (current: Task) => perform(current, (attempt = ++preparation.attempts), worker);
    try {
      const reply = await tryOnce(task).catch(async (error: unknown) => {
        if (!(error instanceof UnpreparedError && task.repair)) throw error;
        return (await tryOnce(task.repair)) && tryOnce(task);
      });
      if (!reply) return false;
      first.resolve(reply);
      preparation.isDone = true;
      return true;
    } catch (cause) {
      if (this.#shutdown.aborted) return false;
      const error = cause as Error;
      // The replacement of a dead worker may succeed; the failure of a live one is final.
      const isAlive = isServing(worker.status());
      this.#listener?.failure?.({ task: task.identity, taskId: task.id, attempt, workerId: worker.id, error, willRetry: !isAlive });
      if (isAlive) first.reject(error);
      // If no worker has done it, the fault is the task's.
      if (isAlive && task.isReplaceable && !preparation.isDone) preparation.isReplaced = true;
      else if (isAlive) {
        worker.kill(`could not be prepared: ${error.message}`, { cause });
      }
      return preparation.isReplaced;
    }
  }
}

/** Resolves with undefined if the worker ended without having begun the task. */
async function perform(task: Task, attempt: number, worker: Worker): Promise<Reply | undefined> {
  const reply = await worker.run(task, attempt);
  try {
    if (reply) await task.accept?.(reply);
  } finally {
    reply?.close(false);
  }
  return reply;
}
