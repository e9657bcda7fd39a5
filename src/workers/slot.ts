import type { SlotState } from "./scheduler.ts";
import { isServing } from "./task.ts";
import type { Worker } from "./worker.ts";

/** A slot holds one worker at a time. When its process dies, another one replaces it: `w0`, then `w0.1`, `w0.2`. */
export interface Slot {
  readonly index: number;
  worker: Worker | undefined;
  /** Its worker has been ready for tasks. */
  isUp: boolean;
  /** How many of the preparations its worker has done. */
  prepared: number;
  isPreparing: boolean;
  /** Tasks that hold its worker. */
  leases: number;
  /** One of them must not share the worker. */
  isExclusive: boolean;
  /** Workers that died here outside a task, since the last completed task. */
  deaths: number;
  /** Tasks in which a worker died here, since the last completed task. A task that ends every worker counts once. */
  readonly poison: Set<string>;
}

/** A slot's worker, held for one task. */
export interface Lease {
  readonly slot: Slot;
  readonly worker: Worker;
}

export function createSlot(index: number): Slot {
  return {
    index,
    worker: undefined,
    isUp: false,
    prepared: 0,
    isPreparing: false,
    leases: 0,
    isExclusive: false,
    deaths: 0,
    poison: new Set(),
  };
}

/** Deaths in a row that suggest that the slot's device is at fault. */
export function deathsOf({ deaths, poison }: Slot): number {
  return deaths + poison.size;
}

/** `preparations`: how many a worker must have done before it takes tasks. */
export function stateOf({ worker, isUp, isPreparing, prepared, leases, isExclusive }: Slot, preparations: number): SlotState {
  const isPrepared = !isPreparing && prepared >= preparations;
  return {
    isUp,
    isAvailable: worker !== undefined && isUp && isPrepared && isServing(worker.status()),
    leases,
    isExclusive,
    isCancelling: worker?.isCancelling() ?? false,
  };
}
