import type { TrackerSpec } from "../config/track-section.ts";
import { rememberTrackers } from "../records/named-code.ts";
import { Delivery, type TrackerStatus } from "./delivery.ts";
import { type Ending, readEnding, type TrackedState } from "./ending.ts";
import { requireTrackers } from "./require-trackers.ts";

/** The deliveries of a run under way, for which the run does not wait. */
export interface Tracking {
  /** Begins to deliver a run directory, which must hold the run's record. */
  start(directory: string): Promise<void>;
  /** Waits until everything is delivered, at most for the grace. Leaves no process behind. Safe to call twice. */
  close(state: TrackedState): Promise<void>;
}

export interface TrackingOptions {
  readonly trackers: readonly TrackerSpec[];
  tell(status: TrackerStatus): void;
  readonly signal: AbortSignal;
  /** Milliseconds that the end of a run waits for trackers. */
  readonly graceMs?: number;
}

const GRACE_MS = 10_000;

/**
 * Checks the trackers, and starts nothing yet. Rejects with an EnvironmentError if the package of one is missing, and with a
 * ConfigError if one refuses the credentials; one that cannot be reached may come back.
 */
export async function prepareTracking({ trackers, tell, signal, graceMs = GRACE_MS }: TrackingOptions): Promise<Tracking> {
  const absent = await requireTrackers(trackers, signal);
  let deliveries: readonly Delivery[] = [];
  let folder = "";
  let closing: Promise<unknown> | undefined;
  async function close(state: TrackedState): Promise<void> {
    if (deliveries.length === 0) return;
    // The delivery says what of the run's files cannot be read.
    const ending = await readEnding(folder, state).catch((): Ending => ({ state }));
    await Promise.all(deliveries.map((delivery) => delivery.close(ending, graceMs)));
  }
  return {
    async start(directory) {
      await rememberTrackers(trackers);
      absent.forEach(tell);
      folder = directory;
      deliveries = trackers.map((spec) => new Delivery(spec, directory, tell));
    },
    async close(state) {
      closing ??= close(state);
      await closing;
    },
  };
}
