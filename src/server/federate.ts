import path from "node:path";
import { validateRun } from "../config/build.ts";
import type { RunInput } from "../config/schema.ts";
import { ConfigError, PrelortError } from "../errors.ts";
import type { WorkerLauncher } from "../workers/launch.ts";
import { conductRun } from "./conduct-run.ts";
import { createEventStream, type EventStream } from "./event-stream.ts";
import type { RunEvent } from "./events.ts";
import type { RunResult } from "./result.ts";

export interface FederateOptions extends RunInput {
  /** Stops the run: workers end, committed rounds are kept, `result` rejects with an InterruptedError. */
  readonly signal?: AbortSignal | undefined;
  /** Replace an earlier run of the same name. */
  readonly overwrite?: boolean | undefined;
  /**
   * Continue the run of this name from its last committed round, and produce exactly the bytes of an uninterrupted run. Only
   * `workers` (except `threads`), `track`, `recordUpdates`, `partialSums` and `spoolBytes` may differ from what it was started with.
   */
  readonly resume?: boolean | undefined;
  /** How workers are started; Python processes on this machine by default. */
  readonly launcher?: WorkerLauncher | undefined;
}

/**
 * A run that is under way: iterate over its events, or await its result, or both.
 *
 * Any number of loops may iterate, each from the start. A loop that starts late gets the latest 100,000 events, and only the
 * latest `worker-status` of each worker. The last event is `run-end`, or `run-failed`, after which the iteration rejects with the
 * error. Leaving a loop with `break` ends that loop alone: the run continues. A `signal` stops the run.
 */
export interface Run extends AsyncIterable<RunEvent> {
  readonly result: Promise<RunResult>;
}

/**
 * Runs a federation: starts workers, trains for `rounds` server rounds, writes the run directory.
 *
 * Throws a ConfigError with every issue before anything starts. `result`, and the iteration, reject with
 * EnvironmentError (Python or data missing), WorkerError (no worker can work), RunFailedError or InterruptedError.
 */
export function federate(options: FederateOptions): Run {
  const { signal, overwrite, resume, launcher, ...input } = options;
  const config = validateRun(input);
  if (resume && config.name === undefined) throw new ConfigError([{ path: "name", message: "is needed to tell which run to resume" }]);
  const events = createEventStream<RunEvent>();
  const emit = (event: RunEvent) => events.push(event, event.type === "worker-status" ? event.workerId : undefined);

  const result = conductRun({ config, overwrite, resume, launcher, signal: signal ?? new AbortController().signal, emit });
  // A caller that only iterates gets the error there; this avoids an unhandled rejection of `result`.
  void tellEnd(result, events, emit);
  return { result, [Symbol.asyncIterator]: () => events[Symbol.asyncIterator]() };
}

/** The last event, once the run is over. */
async function tellEnd(result: Promise<RunResult>, events: EventStream<RunEvent>, emit: (event: RunEvent) => void): Promise<void> {
  try {
    const { directory, layout, sha256 } = await result;
    emit({ type: "run-end", directory, adapters: layout.tiers.map((r) => path.join(directory, "adapters", `r${r}`)), sha256 });
    events.end();
  } catch (error) {
    emit({ type: "run-failed", kind: error instanceof PrelortError ? error.kind : null, error: messageOf(error) });
    events.end(error);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
