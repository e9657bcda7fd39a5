import process from "node:process";
import { Redis } from "ioredis";

/** A job is a run; its id is the run's name. */
export interface RunJob {
  readonly rounds: number;
}

/** After every round. */
export interface RunProgress {
  readonly round: number;
  readonly loss: number | null | undefined;
}

export const QUEUE = "runs";
/** Whoever wants a run cancelled publishes its id here; the worker that has it stops it. */
export const CANCEL = "runs:cancel";

export function connect(): Redis {
  return new Redis(process.env["REDIS_URL"] ?? "redis://127.0.0.1:6379", { maxRetriesPerRequest: null });
}
