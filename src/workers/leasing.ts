import { createDeferred, type Deferred } from "../base/deferred.ts";
import { enqueue, schedule, type Waiter } from "./scheduler.ts";
import { type Lease, type Slot, stateOf } from "./slot.ts";

/** What a task requires of the worker that it waits for. */
export interface Wanted {
  /** The highest is served first. */
  readonly priority: number;
  /** Not used while another slot is up. */
  readonly avoid: Slot | undefined;
  /** The task has the worker to itself, so that a crash can be attributed to it. */
  readonly exclusive: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** Leases workers to tasks; scheduler.ts decides which. */
export class Leasing {
  readonly #slots: readonly Slot[];
  /** How many preparations a worker must have done. */
  readonly #preparations: () => number;
  /** Once aborted, everyone who waits gets its reason. */
  readonly #shutdown: AbortSignal;
  readonly #queue: (Waiter & { readonly lease: Deferred<Lease> })[] = [];
  #isDispatchDue = false;

  constructor(slots: readonly Slot[], preparations: () => number, shutdown: AbortSignal) {
    this.#slots = slots;
    this.#preparations = preparations;
    this.#shutdown = shutdown;
    shutdown.addEventListener("abort", () => {
      for (const { lease } of this.#queue.splice(0)) lease.reject(shutdown.reason);
    });
  }

  /** Waits for a worker. */
  acquire({ priority, avoid, exclusive, signal }: Wanted): Promise<Lease> {
    const lease = createDeferred<Lease>();
    const leave = () => {
      const place = this.#queue.findIndex((waiter) => waiter.lease === lease);
      if (place >= 0) this.#queue.splice(place, 1);
      lease.reject(signal?.reason);
    };
    if (this.#shutdown.aborted) lease.reject(this.#shutdown.reason);
    else enqueue(this.#queue, { priority, avoid: avoid?.index, exclusive, lease });
    signal?.addEventListener("abort", leave, { once: true });
    this.dispatchSoon();
    return lease.promise.finally(() => signal?.removeEventListener("abort", leave));
  }

  /** Leases workers to waiters, once everyone who asks in this turn has done so. */
  dispatchSoon(): void {
    if (this.#isDispatchDue) return;
    this.#isDispatchDue = true;
    queueMicrotask(() => {
      this.#isDispatchDue = false;
      this.#dispatch();
    });
  }

  #dispatch(): void {
    const states = this.#slots.map((slot) => stateOf(slot, this.#preparations()));
    const assigned = schedule(states, this.#queue).map(({ slot, waiter }) => [this.#slots[slot], this.#queue[waiter]] as const);
    for (const [slot, waiter] of assigned) {
      if (!waiter) continue;
      this.#queue.splice(this.#queue.indexOf(waiter), 1);
      if (!slot?.worker) continue;
      slot.leases++;
      slot.isExclusive = waiter.exclusive;
      waiter.lease.resolve({ slot, worker: slot.worker });
    }
  }
}
