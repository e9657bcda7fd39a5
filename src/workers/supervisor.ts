import { setImmediate } from "node:timers/promises";
import PQueue from "p-queue";
import { ConfigError, RunFailedError, type WorkerError } from "../errors.ts";
import { createBuffers } from "./buffers.ts";
import { createDeferred, type Deferred } from "./deferred.ts";
import type { PoolListener, Reply, Task } from "./task.ts";
import { createWorker, isServing, type Worker, type WorkerSettings } from "./worker.ts";

export interface SupervisorOptions extends WorkerSettings {
  /** Worker i is given device i modulo their number. */
  readonly devices: readonly string[];
  readonly count: number;
  readonly listener?: PoolListener;
}

/** Keeps workers up, prepared, and handed to those who wait for one, the largest first. */
export interface Supervisor {
  /** Starts them. Resolves when the first is free. */
  start(): Promise<void>;
  /**
   * Waits for a worker for one task, until `release`; not one in `avoid` while another place is up. It is a free one, or,
   * while more wait than there are places, one that has a task and is to find its next waiting for it. Who is to be `alone` has
   * it to itself, so that it is known whose fault its end is.
   */
  acquire(wanted: {
    readonly priority: number;
    readonly avoid: Slot | undefined;
    readonly exclusive: boolean;
    readonly signal?: AbortSignal | undefined;
  }): Promise<Lease>;
  /** `failed` is the task that came to nothing, through whoever's fault. */
  release(lease: Lease, outcome: { readonly isCompleted: boolean; readonly failed?: string }): void;
  /** Has every worker, present and restarted, do this before it is free again. Resolves with the first reply. */
  prepare(task: Task): Promise<Reply>;
  /** Asks that what is under way be dropped. */
  cancel(): void;
  /** Resolves when no process is left. May be called again with a shorter grace. */
  stop(graceMs: number): Promise<void>;
}

/** A place for a worker: when its process dies another takes it, as `w0`, then `w0.1`, `w0.2`. */
export interface Slot {
  readonly index: number;
  worker: Worker | undefined;
  /** Its worker has been free once, so counts among those that take tasks. */
  isUp: boolean;
  /** How many of the supervisor's preparations its worker has done. */
  prepared: number;
  /** It is doing one. */
  isPreparing: boolean;
  /** Tasks its worker is leased for. */
  leases: number;
  /** To one that has it to itself. */
  isExclusive: boolean;
  /** Of its workers, with no task completed in between: outside a task, */
  deaths: number;
  /** and tasks in which one ended. A task that ends every worker counts once. */
  readonly poison: Set<string>;
}

export interface Lease {
  readonly slot: Slot;
  readonly worker: Worker;
}

/** A place whose workers end that often in a row, outside a task or each in another one, is given up: its device is at fault. */
const MAX_DEATHS = 3;

interface Waiter {
  readonly exclusive: boolean;
  readonly priority: number;
  readonly avoid: Slot | undefined;
  readonly lease: Deferred<Lease>;
}

interface Preparation {
  readonly task: Task;
  readonly first: Deferred<Reply>;
  attempts: number;
}

/** `shutdown` is aborted, here or elsewhere, once nothing is to run any more; its reason is what all who wait get. */
export function createSupervisor(options: SupervisorOptions, shutdown: AbortController): Supervisor {
  const { devices, count, listener, transport } = options;
  const started = createDeferred<void>();
  const workers = new Map<string, Worker>();
  const preparations: Preparation[] = [];
  // One that is looked at, and one that comes meanwhile.
  const receiving = { buffers: createBuffers(), turns: new PQueue({ concurrency: 2 }) };
  let waiters: Waiter[] = [];
  const slots = Array.from({ length: count }, (_, index): Slot => {
    return {
      index,
      worker: undefined,
      isUp: false,
      isPreparing: false,
      prepared: 0,
      leases: 0,
      isExclusive: false,
      deaths: 0,
      poison: new Set(),
    };
  });
  let upkeep: Promise<unknown> = Promise.resolve();
  let hasBeenUp = false;
  let isRefreshDue = false;
  let retired = 0;

  started.promise.catch(() => {}); // for who never calls start
  shutdown.signal.addEventListener("abort", () => {
    const { reason } = shutdown.signal;
    started.reject(reason);
    for (const { first } of preparations) first.reject(reason);
    for (const { lease } of waiters) lease.reject(reason);
    waiters = [];
  });

  async function readFrames(): Promise<void> {
    // Frames of a process that has been replaced come from a name that is no longer known, and are dropped.
    for await (const { peer, frame } of transport.receive()) workers.get(peer)?.receive(frame);
  }

  async function keepUp(slot: Slot): Promise<void> {
    for (let generation = 0; !shutdown.signal.aborted && deathsOf(slot) < MAX_DEATHS; generation++) {
      const id = generation === 0 ? `w${slot.index}` : `w${slot.index}.${generation}`;
      const device = devices[slot.index % devices.length] ?? "cpu";
      const worker = createWorker(id, device, { ...options, ...receiving }, (status) => listener?.status?.(status));
      workers.set(id, worker);
      slot.worker = worker;
      slot.prepared = 0;
      const settled = worker.ready.then(
        (hello) => {
          hasBeenUp = true;
          listener?.ready?.(hello);
          return settle({ slot, worker });
        },
        () => {},
      );
      const error = await worker.ended;
      await settled;
      workers.delete(id);
      slot.worker = undefined;
      slot.isUp = false;
      if (!error) return;
      if (slot.leases === 0) slot.deaths++;
      slot.leases = 0;
      // Whoever held its lease says first in which task it ended.
      await setImmediate();
      // When no worker has come up yet, what ended this one lies in wait for the others; a signal came from outside.
      if (!hasBeenUp && error.details.signal === undefined) shutdown.abort(explain(error));
      else if (deathsOf(slot) >= MAX_DEATHS) {
        listener?.givenUp?.({ workerId: id, device, error });
        const problem = `no worker is left: in each place ${MAX_DEATHS} ended in a row; the last with:\n${error.message}`;
        if (++retired === count) shutdown.abort(new RunFailedError(problem, { cause: error }));
      }
      refresh();
    }
  }

  /** Has a worker do the preparations it lacks; then it takes tasks. */
  async function settle({ slot, worker }: Lease): Promise<void> {
    slot.isPreparing = true;
    try {
      for (let next = preparations[slot.prepared]; next; next = preparations[slot.prepared]) {
        if (!isServing(worker.status()) || !(await prepareOne(worker, next))) return;
        slot.prepared++;
      }
    } finally {
      slot.isPreparing = false;
    }
    if (!isServing(worker.status())) return;
    slot.isUp = true;
    started.resolve();
    refresh();
  }

  async function prepareOne(worker: Worker, preparation: Preparation): Promise<boolean> {
    const { task, first } = preparation;
    const attempt = ++preparation.attempts;
    try {
      const reply = await worker.run(task, attempt);
      if (!reply) return false;
      try {
        await task.accept?.(reply);
      } finally {
        reply.close(false);
      }
      first.resolve(reply);
      return true;
    } catch (cause) {
      if (shutdown.signal.aborted) return false;
      const error = cause as Error;
      // A worker that died may be replaced by one that can; one that lives and cannot has given the answer.
      const isAlive = isServing(worker.status());
      listener?.failure?.({ taskId: task.id, attempt, workerId: worker.id, error, willRetry: !isAlive });
      if (isAlive) {
        first.reject(error);
        worker.kill(`could not be prepared: ${error.message}`, { cause });
      }
      return false;
    }
  }

  /** Hands out workers, once all who ask at this moment have asked. */
  function refresh(): void {
    if (isRefreshDue) return;
    isRefreshDue = true;
    queueMicrotask(() => {
      isRefreshDue = false;
      waiters.sort((one, other) => other.priority - one.priority);
      const free = slots.filter((slot) => slot.leases === 0);
      for (const slot of free) grant(slot);
      // What is handed out ahead can go nowhere else, so near the end nothing is: all are to end together.
      for (const slot of slots) {
        if (slot.leases === 1 && !slot.isExclusive && waiters.length > count && !slot.worker?.isCancelling()) grant(slot);
      }
    });
  }

  function grant(slot: Slot): void {
    const { worker } = slot;
    if (!worker || !slot.isUp || !isServing(worker.status()) || isToPrepare(slot)) return;
    const isOtherUp = slots.some((other) => other !== slot && other.isUp);
    const place = waiters.findIndex(({ avoid, exclusive }) => (avoid !== slot || !isOtherUp) && !(exclusive && slot.leases > 0));
    const waiter = place < 0 ? undefined : waiters.splice(place, 1)[0];
    if (!waiter) return;
    slot.leases++;
    slot.isExclusive = waiter.exclusive;
    waiter.lease.resolve({ slot, worker });
  }

  function isToPrepare(slot: Slot): boolean {
    return slot.isPreparing || slot.prepared < preparations.length;
  }

  return {
    start() {
      readFrames().catch((error: unknown) => shutdown.abort(error));
      upkeep = Promise.all(slots.map((slot) => keepUp(slot).catch((error: unknown) => shutdown.abort(error))));
      return started.promise;
    },
    acquire(wanted) {
      const lease = createDeferred<Lease>();
      const { signal } = wanted;
      if (shutdown.signal.aborted) lease.reject(shutdown.signal.reason);
      else waiters.push({ ...wanted, lease });
      const leave = () => {
        waiters = waiters.filter((waiter) => waiter.lease !== lease);
        lease.reject(signal?.reason);
      };
      signal?.addEventListener("abort", leave, { once: true });
      refresh();
      return lease.promise.finally(() => signal?.removeEventListener("abort", leave));
    },
    release(lease, { isCompleted, failed }) {
      const { slot, worker } = lease;
      if (isCompleted) {
        slot.deaths = 0;
        slot.poison.clear();
      } else if (failed !== undefined && !isServing(worker.status())) slot.poison.add(failed);
      // A worker that died while leased stays leased until its place is filled again, so that its death is told apart.
      if (slot.worker !== worker || !isServing(worker.status())) return;
      slot.leases--;
      if (slot.leases === 0 && isToPrepare(slot)) void settle(lease);
      else refresh();
    },
    async prepare(task) {
      shutdown.signal.throwIfAborted();
      const first = createDeferred<Reply>();
      preparations.push({ task, first, attempts: 0 });
      // Those that are starting or busy come to it when they are ready.
      for (const slot of slots) if (isFree(slot) && slot.worker) void settle({ slot, worker: slot.worker });
      return first.promise;
    },
    cancel() {
      for (const worker of workers.values()) worker.cancel();
    },
    async stop(graceMs) {
      for (const worker of workers.values()) worker.stop(graceMs);
      await upkeep;
    },
  };
}

/** What a worker ends with whose device is not there, which the last line of its log says. */
const EXIT_DEVICE = 5;

function explain(error: WorkerError): Error {
  const told = error.details.logTail?.trimEnd().split("\n").at(-1);
  if (error.details.exitCode !== EXIT_DEVICE || told === undefined) return error;
  return new ConfigError([{ path: "workers.devices", message: told }]);
}

function deathsOf({ deaths, poison }: Slot): number {
  return deaths + poison.size;
}

function isFree({ isUp, isPreparing, leases }: Slot): boolean {
  return isUp && !isPreparing && leases === 0;
}
