import type { Borrow, Lend } from "../protocol/tensor-chunks.ts";
import type { WorkerMessageOf } from "../protocol/messages.ts";
import type { Lender } from "../transport/lender.ts";
import { borrowFromProcess, canShareWith } from "../transport/shared-memory.ts";
import type { Hosts } from "./hosts.ts";
import type { Keeper } from "./keeper.ts";

/** How tensors reach a worker, and come back, other than in chunks. */
export interface Sharing {
  readonly lend: Lend | undefined;
  /** Reads the worker's memory. */
  readonly borrow: Borrow | undefined;
  /** The worker could not read what another worker had lent it. */
  refuse(): void;
  /** The worker is gone. */
  leave(): void;
}

export const NOTHING_SHARED: Sharing = { lend: undefined, borrow: undefined, refuse() {}, leave() {} };

export interface Sharer {
  /** Of the process that was launched on this machine. */
  readonly pid: number | undefined;
  readonly ended: Promise<unknown>;
  readonly keeper: Keeper;
}

/** With this process, if both are on one machine; else with the workers of the worker's machine. */
export function shareWith(
  { pid, shares_memory, memory: domain }: WorkerMessageOf<"hello">,
  { pid: launched, ended, keeper }: Sharer,
  { memory, hosts }: { readonly memory: Lender; readonly hosts: Hosts },
): Sharing {
  // With another launcher, this may be a pid of another machine.
  if (shares_memory && pid === launched && canShareWith(pid))
    return { ...NOTHING_SHARED, lend: memory.lend, borrow: borrowFromProcess(pid, ended) };
  return domain === null ? NOTHING_SHARED : { ...hosts.join(domain, { lender: () => keeper.lender(pid) }), borrow: undefined };
}
