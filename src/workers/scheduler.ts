/** What the scheduler knows about a worker slot. */
export interface SlotState {
  /** Its worker has been ready for tasks and has not died since. */
  readonly isUp: boolean;
  /** Its worker can take a task now: it is alive and has done every preparation. */
  readonly isAvailable: boolean;
  /** Tasks that hold its worker. */
  readonly leases: number;
  /** One of them must not share the worker. */
  readonly isExclusive: boolean;
  /** Its worker was asked to drop a task and has not done so yet. */
  readonly isCancelling: boolean;
}

/** A task that waits for a worker. */
export interface Waiter {
  readonly priority: number;
  /** Index of a slot to avoid while another one is up. */
  readonly avoid: number | undefined;
  /** It must have its worker to itself. */
  readonly exclusive: boolean;
}

/** The waiter gets the worker of the slot, both given by their places: in the queue and among the slots. */
export interface Assignment {
  readonly slot: number;
  readonly waiter: number;
}

/** Puts a waiter into the queue: behind those of its priority, before those of a lower one. */
export function enqueue<W extends Waiter>(queue: W[], waiter: W): void {
  queue.splice(queue.findLastIndex(({ priority }) => priority >= waiter.priority) + 1, 0, waiter);
}

/**
 * Decides which waiter gets which worker now. Free workers come first: each takes the first of the queue that accepts it. While
 * more tasks wait than there are slots, a busy worker gets a second task in advance, so that it never runs dry; near the end it
 * does not, since another worker may be free first. Thousands may wait: the queue is not copied.
 */
export function schedule(slots: readonly SlotState[], queue: readonly Waiter[]): readonly Assignment[] {
  const served = new Set<number>();
  const assignments: Assignment[] = [];
  const planned = slots.map(({ leases, isExclusive }) => ({ leases, isExclusive }));

  const assign = (slot: SlotState, index: number) => {
    const state = planned[index];
    if (!slot.isAvailable || !state) return;
    const isOtherUp = slots.some((other, otherIndex) => otherIndex !== index && other.isUp);
    const accepts = ({ avoid, exclusive }: Waiter) => (avoid !== index || !isOtherUp) && !(exclusive && state.leases > 0);
    const waiter = queue.findIndex((each, place) => !served.has(place) && accepts(each));
    if (waiter < 0) return;
    served.add(waiter);
    planned[index] = { leases: state.leases + 1, isExclusive: queue[waiter]?.exclusive ?? false };
    assignments.push({ slot: index, waiter });
  };

  for (const [index, slot] of slots.entries()) if (slot.leases === 0) assign(slot, index);
  for (const [index, slot] of slots.entries()) {
    const { leases, isExclusive } = planned[index] ?? slot;
    if (leases === 1 && !isExclusive && !slot.isCancelling && queue.length - served.size > slots.length) assign(slot, index);
  }
  return assignments;
}
