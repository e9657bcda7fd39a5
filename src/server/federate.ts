import { validateRun } from "../config/build.ts";
import type { RunInput } from "../config/schema.ts";
import { ConfigError, InterruptedError } from "../errors.ts";
import type { ReadOptions } from "../records/event-log.ts";
import type { RunState } from "../records/run-state.ts";
import { findTelemetry } from "../telemetry/open-telemetry.ts";
import type { WorkerLauncher } from "../workers/launch.ts";
import { conductRun, runEnd, runFailed } from "./conduct-run.ts";
import type { RunEvent } from "./events.ts";
import type { RunResult } from "./result.ts";
import { RunEvents } from "./run-events.ts";
import type { SharedPool } from "./shared-pool.ts";

export interface FederateOptions extends RunInput {
  /** Stops the run: workers end, committed rounds are kept, `result` rejects with an InterruptedError. */
  readonly signal?: AbortSignal | undefined;
  /** Replace an earlier run of the same name. */
  readonly overwrite?: boolean | undefined;
  /**
   * Continue the run of this name from its last committed round, and produce exactly the bytes of an uninterrupted run. Only
   * `workers` (except `threads`), `track`, `recordUpdates`, `keepRounds`, `partialSums` and `spoolBytes` may differ from what it was started with.
   */
  readonly resume?: boolean | undefined;
  /** How workers are started; Python processes on this machine by default. */
  readonly launcher?: WorkerLauncher | undefined;
  /** Workers that it shares with other runs, made by `createPool`; then `workers` and `launcher` are the pool's. */
  readonly pool?: SharedPool | undefined;
}

/**
 * A run that is under way: iterate over its events, or await its result, or both.
 *
 * Any number of loops may iterate, each from the start. A loop that starts late gets the latest 100,000 events, and only the
 * latest `worker-status` of each worker. The last event is `run-end`, or `run-failed`, after which the iteration rejects with the
 * error. Leaving a loop with `break` ends that loop alone: the run continues. `stop`, or a `signal`, stops the run.
 */
export interface Run extends AsyncIterable<RunEvent>, AsyncDisposable {
  readonly result: Promise<RunResult>;
  /** `interrupted` after `stop` or `signal`. */
  readonly state: Exclude<RunState, "killed">;
  /**
   * Its events after a number, for a reader that has seen earlier ones: also those of earlier processes, if this one resumed the
   * run, and those that are no longer in memory, both as `loadRun` gives them. `after: 0` gives all. Like that of a loaded run, the
   * iteration ends with `run-failed` and does not reject.
   */
  events(options?: ReadOptions): AsyncIterable<RunEvent>;
  /**
   * Stops it: workers end, committed rounds are kept, `result` rejects with an InterruptedError. Resolves once nothing of the run
   * is left; never rejects, and does nothing to a run that is over. `await using run = federate(…)` calls it at the end of the block.
   */
  stop(): Promise<void>;
}

/**
 * Runs a federation: starts workers, trains for `rounds` server rounds, writes the run directory.
 *
 * Throws a ConfigError with every issue before anything starts. `result`, and the iteration, reject with
 * EnvironmentError (Python or data missing), WorkerError (no worker can work), RunFailedError or InterruptedError.
 */
export function federate(options: FederateOptions): Run {
  const { signal, overwrite, resume, launcher, pool, ...input } = options;
  const config = validateRun(pool ? onPool(input, launcher, pool) : input);
  if (resume && config.name === undefined) throw new ConfigError([{ path: "name", message: "is needed to tell which run to resume" }]);
  const [events, stopping] = [new RunEvents(), new AbortController()];
  const either = signal ? AbortSignal.any([signal, stopping.signal]) : stopping.signal;
  let state: Run["state"] = "running";

  const { trace, meters } = findTelemetry();
  const result = trace.during("prelort.run", {}, (span) =>
    conductRun({ config, overwrite, resume, launcher, pool, signal: either, events, span, meters }),
  );
  // A caller that only iterates gets the error there; this avoids an unhandled rejection of `result`.
  const over = watch(result);
  async function watch(outcome: Promise<RunResult>): Promise<void> {
    try {
      const made = await outcome;
      state = "ended";
      events.end(runEnd(made));
    } catch (error) {
      state = error instanceof InterruptedError ? "interrupted" : "failed";
      events.end(runFailed(error));
    }
  }
  async function stop(): Promise<void> {
    stopping.abort();
    await over;
  }
  async function* iterate(): AsyncGenerator<RunEvent, void> {
    yield* events.read();
    await result;
  }
  return {
    result,
    get state() {
      return state;
    },
    events: (range) => events.read(range),
    stop,
    [Symbol.asyncIterator]: iterate,
    [Symbol.asyncDispose]: stop,
  };
}

/** The config of a run whose workers are a pool's. */
function onPool(input: RunInput, launcher: WorkerLauncher | undefined, pool: SharedPool): RunInput {
  const issues = [
    ...(input.workers === undefined ? [] : [{ path: "workers", message: "belong to the pool: give them to createPool" }]),
    ...(launcher === undefined ? [] : [{ path: "launcher", message: "belongs to the pool: give it to createPool" }]),
    ...(input.partialSums
      ? [{ path: "partialSums", message: "cannot be used on a shared pool, whose workers add up for one run at a time" }]
      : []),
  ];
  if (issues.length > 0) throw new ConfigError(issues);
  return { ...input, workers: pool.workers };
}
