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

/** The waiter gets the worker of the slot, both given by their indexes. */
export interface Assignment {
  readonly slot: number;
  readonly waiter: number;
}

/**
 * Decides which waiter gets which worker now. Free workers come first: each takes the waiter with the highest priority that
 * accepts it, and on a tie the one that has waited longest. While more tasks wait than there are slots, a busy worker gets a
 * second task in advance, so that it never runs dry; near the end it does not, since another worker may be free first.
 */
export function schedule(slots: readonly SlotState[], waiters: readonly Waiter[]): readonly Assignment[] {
  let queue = waiters.map((waiter, index) => ({ ...waiter, index })).toSorted((a, b) => b.priority - a.priority);
  const assignments: Assignment[] = [];
  const planned = slots.map(({ leases, isExclusive }) => ({ leases, isExclusive }));

  const assign = (slot: SlotState, index: number) => {
    const state = planned[index];
    if (!slot.isAvailable || !state) return;
    const isOtherUp = slots.some((other, otherIndex) => otherIndex !== index && other.isUp);
    const next = queue.find(({ avoid, exclusive }) => (avoid !== index || !isOtherUp) && !(exclusive && state.leases > 0));
    if (!next) return;
    queue = queue.filter((waiter) => waiter !== next);
    planned[index] = { leases: state.leases + 1, isExclusive: next.exclusive };
    assignments.push({ slot: index, waiter: next.index });
  };

  for (const [index, slot] of slots.entries()) if (slot.leases === 0) assign(slot, index);
  for (const [index, slot] of slots.entries()) {
    const { leases, isExclusive } = planned[index] ?? slot;
    if (leases === 1 && !isExclusive && !slot.isCancelling && queue.length > slots.length) assign(slot, index);
  }
  return assignments;
}
