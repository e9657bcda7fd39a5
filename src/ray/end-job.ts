import { setTimeout as delay } from "node:timers/promises";
import type { JobsApi } from "./jobs-api.ts";
import { RayError } from "./ray-error.ts";

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
  const isSubmitted = await Promise.race([submitted, delay(withinMs / 2, true, { ref: false })]);
  if (!isSubmitted) return;
  let isKnown = false;
  void submitted.then(() => (isKnown = true));
  const hasEnded = async () => {
    const status = await api.status(id, { timeoutMs: left() });
    // Ray may not know one yet whose submit is under way.
    return status ? status.hasEnded : isKnown;
  };
  const isAsked = await askDriver().then(
    () => true,
    () => false,
  );
  const stopFrom = performance.now() + (isAsked ? Math.min(DRIVER_MS, withinMs / 2) : 0);
  let nextStop = stopFrom;
  while (performance.now() < deadline) {
    try {
      if (await hasEnded()) return;
      if (performance.now() >= nextStop) {
        await api.stop(id, { timeoutMs: left() });
        nextStop = performance.now() + STOP_AGAIN_MS;
      }
    } catch (error) {
      // Ray cannot be asked: the driver ends by its lease. An answer such as 503 may be another one next time.
      if (!(error instanceof RayError && error.isPassing && error.status !== undefined)) return;
    }
    await delay(Math.min(LOOK_MS, left()));
  }
}
