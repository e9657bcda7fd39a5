import type { Lender } from "../transport/lender.ts";
import type { Transport } from "../transport/transport.ts";
import type { WorkerLauncher } from "./launch.ts";
import type { Timeouts } from "./watchdog.ts";

/** How workers are started, and how long they may be silent. */
export interface WorkerSettings extends Timeouts {
  readonly launcher: WorkerLauncher;
  readonly transport: Transport;
  /** For tensors to workers on this machine. */
  readonly memory: Lender;
  readonly threads: number;
  readonly logFolder: string;
}

/** Which worker of the pool. */
export interface Place {
  /** `w0`, or `w0.1` for the one that replaces it. */
  readonly id: string;
  /** Counted from 0; the same for one that replaces it. */
  readonly index: number;
  readonly device: string;
}
