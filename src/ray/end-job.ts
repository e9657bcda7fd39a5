import { setTimeout as delay } from "node:timers/promises";
import type { JobsApi } from "./jobs-api.ts";

export interface EndOptions {
  /** Resolves with whether there is such a job, as far as is known. */
  readonly submitted: Promise<boolean>;
  /** Rejects if the driver cannot be asked to end the job in order. */
  askDriver(): Promise<void>;
  readonly withinMs: number;
}

/** How long a driver that was asked has. */
const DRIVER_MS = 3000;
const LOOK_MS = 100;
/** Between two requests to stop: Ray forgets one that comes while a job is PENDING. */
const STOP_AGAIN_MS = 500;

/** Ends a job in order if its driver can be asked, else by Ray. Never rejects. */
export async function endJob(api: JobsApi, id: string, { submitted, askDriver, withinMs }: EndOptions): Promise<void> {
  const deadline = performance.now() + withinMs;
  const left = () => Math.max(1, deadline - performance.now());
  // A submit that is under way is not broken off: Ray would leave the job PENDING for ever. It may have arrived already.
  const isSubmitted = await Promise.race([submitted, delay(withinMs / 2, true)]);
  if (!isSubmitted) return;
  const hasEnded = async () => {
    const status = await api.status(id, { timeoutMs: left() });
    return status === undefined || status.hasEnded;
  };
  const isAsked = await askDriver().then(
    () => true,
    () => false,
  );
  const stopFrom = performance.now() + (isAsked ? Math.min(DRIVER_MS, withinMs / 2) : 0);
  let nextStop = stopFrom;
  try {
    while (performance.now() < deadline && !(await hasEnded())) {
      if (performance.now() >= nextStop) {
        await api.stop(id, { timeoutMs: left() });
        nextStop = performance.now() + STOP_AGAIN_MS;
      }
      await delay(Math.min(LOOK_MS, left()));
    }
  } catch {
    // Ray cannot be asked: the driver ends by its lease.
  }
}
