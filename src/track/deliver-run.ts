import type { TrackerName, TrackerSpec } from "../config/track-section.ts";
import { InterruptedError, RunFailedError } from "../errors.ts";
import type { Ending } from "./ending.ts";
import { startTracker } from "./tracker-process.ts";

/** A run that a tracker has everything of. */
export interface DeliveredRun {
  readonly tracker: TrackerName;
  /** The last round that it had before; −1 for none. */
  readonly before: number;
  /** The last round that it has now. */
  readonly round: number;
}

/**
 * Delivers to a tracker what it lacks of a run, whoever trained it and whenever. Throws a RunFailedError if the tracker cannot be
 * reached or refuses.
 */
export async function deliverRun(
  spec: TrackerSpec,
  directory: string,
  { ending, signal }: { readonly ending: Ending; readonly signal: AbortSignal },
): Promise<DeliveredRun> {
  const { name: tracker } = spec;
  let [before, round, isComplete] = [-1, -1, false];
  let problem: string | undefined;
  const running = startTracker(spec, directory, (report) => {
    if (report.type === "open") before = round = report.round;
    if (report.type === "delivered") round = report.round;
    if (report.type === "closed") isComplete = true;
    if (report.type !== "behind") return;
    problem = report.message;
    running.kill();
  });
  const stop = () => running.kill();
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  running.end(ending);
  const said = await running.exited;
  signal.removeEventListener("abort", stop);
  if (isComplete) return { tracker, before, round };
  if (signal.aborted) throw new InterruptedError("the delivery was interrupted; run the same command again to continue");
  throw new RunFailedError(
    `${directory} is not delivered to ${tracker} beyond round ${round}: ${problem ?? said}; run the same command again to continue`,
  );
}
