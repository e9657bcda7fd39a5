import { setMaxListeners } from "node:events";
import { InterruptedError, PrelortError, WorkerError } from "../errors.ts";
import { orAborted } from "../base/abort.ts";
import type { Lease, Slot } from "./slot.ts";
import { Supervisor, type SupervisorOptions } from "./supervisor.ts";
import type { Reply, Task, TaskType, WorkerPool } from "./task.ts";

export interface PoolOptions extends SupervisorOptions {
  /** How often a failed task is tried again. */
  readonly retries: number;
  /** When aborted, all tasks reject with an InterruptedError, and workers are asked to drop what they do. */
  readonly signal?: AbortSignal;
}

/** Of one try: a reply, or an error, or neither where the worker ended before it had begun. */
interface Outcome {
  readonly lease: Lease;
  readonly reply?: Reply;
  readonly error?: Error;
}

/** Of the next try. */
interface Terms {
  /** Where it is not to be made, if there is another place. */
  readonly avoid: Slot | undefined;
  readonly exclusive: boolean;
}

/** How long a worker that was asked to end is given. */
const STOP_GRACE_MS = 5000;

/** Reads all that arrives on the transport, which stays its owner's to close, after the pool. */
export function createWorkerPool(options: PoolOptions): WorkerPool {
  const { retries, listener, signal } = options;
  /** Aborted once nothing is to run any more, for whatever reason. */
  const shutdown = new AbortController();
  /** Aborted when that was asked for: then nobody waits for what is still under way. */
  const interruption = new AbortController();
  setMaxListeners(0, interruption.signal);
  const supervisor = new Supervisor(options, shutdown);

  const end = (reason: InterruptedError) => {
    interruption.abort(reason);
    shutdown.abort(reason);
  };
  const interrupt = () => {
    end(new InterruptedError());
    supervisor.cancel();
  };
  if (signal?.aborted) interrupt();
  signal?.addEventListener("abort", interrupt, { once: true });

  async function tryOnce(task: Task, number: number, { avoid, exclusive }: Terms): Promise<Outcome> {
    const { signal: given } = task;
    const lease = await supervisor.acquire({ priority: task.priority ?? 0, avoid, exclusive, signal: given });
    const cancel = () => lease.worker.cancel(task.id);
    given?.addEventListener("abort", cancel, { once: true });
    try {
      given?.throwIfAborted();
      const reply = await lease.worker.run(task, number);
      if (reply) await lookAt(task, reply, interruption.signal);
      supervisor.release(lease, { isCompleted: reply !== undefined });
      return reply ? { lease, reply } : { lease };
    } catch (error) {
      supervisor.release(lease, { isCompleted: false, failed: task.id });
      return { lease, error: error as Error };
    } finally {
      given?.removeEventListener("abort", cancel);
    }
  }

  async function tryUntilDone(task: Task): Promise<Reply> {
    let terms: Terms = { avoid: undefined, exclusive: false };
    let failures = 0;
    for (let number = 1; ;) {
      const { lease, reply, error } = await tryOnce(task, number, terms);
      interruption.signal.throwIfAborted();
      if (reply) return reply;
      task.signal?.throwIfAborted();
      // Whatever ended the worker, the next one has nothing else leased.
      terms = { avoid: error && lease.slot, exclusive: true };
      if (!error) continue;
      // One that may have been another's fault does not count. It is made alone the next time, so there is no second of the kind.
      if (!(error instanceof WorkerError && error.details.isUncertain)) failures++;
      const isFinal = isNobodysFault(error) || failures > retries;
      const willRetry = !isFinal && !shutdown.signal.aborted;
      listener?.failure?.({ task: task.identity, taskId: task.id, attempt: number, workerId: lease.worker.id, error, willRetry });
      if (isFinal) throw error;
      number++;
    }
  }

  return {
    start: () => supervisor.start(),
    async run<T extends TaskType>(task: Task<T>) {
      const done = orAborted(tryUntilDone(task as unknown as Task), interruption.signal);
      return (await (task.signal ? orAborted(done, task.signal) : done)) as unknown as Reply<T>;
    },
    async onEveryWorker<T extends TaskType>(task: Task<T>) {
      return (await supervisor.prepare(task as unknown as Task)) as unknown as Reply<T>;
    },
    async close({ now = false } = {}) {
      signal?.removeEventListener("abort", interrupt);
      end(new InterruptedError("the worker pool was closed"));
      await supervisor.stop(now ? 0 : STOP_GRACE_MS);
    },
  };
}

/** Neither the worker's nor the client's: another try would end the same way. */
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
