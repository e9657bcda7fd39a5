import { setMaxListeners } from "node:events";
import path from "node:path";
import { isDeepStrictEqual } from "node:util";
import PQueue from "p-queue";
import { isThere } from "../base/read-file.ts";
import { describeConfig, describePolicyFiles } from "../config/build.ts";
import { comparableConfig } from "../config/recorded-config.ts";
import type { RunConfig } from "../config/schema.ts";
import { ConfigError, PrelortError } from "../errors.ts";
import { readJournal } from "../records/journal.ts";
import { readRun, type RecordedRun } from "../records/read-run.ts";
import { changedPolicies } from "../records/resume-check.ts";
import { readRecord } from "../records/run-record.ts";
import { federate } from "../server/federate.ts";
import type { WorkerLauncher } from "../workers/launch.ts";

/* The runs of a comparison: each is made once, and one that an earlier comparison finished is kept. */

export interface RunsOptions {
  /** Replace runs that an earlier comparison of the same name made with another config; otherwise they are refused. */
  readonly overwrite?: boolean | undefined;
  /** Number of runs at a time. */
  readonly jobs?: number | undefined;
  /**
   * Starts the workers of all runs, one for each run, such as `laneLauncher`; by default each run has workers of its own, as its
   * config says.
   */
  readonly launcher?: WorkerLauncher | undefined;
  readonly signal?: AbortSignal | undefined;
  onRun?(progress: Progress): void;
}

export interface Progress {
  readonly name: string;
  readonly state: "kept" | "started" | "finished";
  readonly finished: number;
  /** Known so far: runs at equal compute are planned once the cost of a method's steps is known. */
  readonly planned: number;
}

export interface Runs {
  /**
   * The finished run of this config, kept or made now; or the error it failed with, which does not concern other runs.
   * Rejects if no other run should continue: after an interrupt or an error of the config.
   */
  get(config: RunConfig): Promise<RecordedRun | PrelortError>;
}

/** Aborts `refusal` if a run would replace one of another config, so that no other run is made in vain. */
export function createRuns({ jobs = 1, overwrite = false, launcher, signal, onRun }: RunsOptions, refusal: AbortController): Runs {
  const stop = signal ? AbortSignal.any([signal, refusal.signal]) : refusal.signal;
  // Every run listens to it.
  setMaxListeners(0, stop);
  const queue = new PQueue({ concurrency: jobs });
  let [planned, finished] = [0, 0];
  const keepOrMake = async (config: RunConfig): Promise<RecordedRun> => {
    const name = config.name ?? "";
    planned++;
    const report = (state: Progress["state"]) => onRun?.({ name, state, finished, planned });
    const directory = path.resolve(config.runsDir, name);
    const { commits, hasEnded } = await readJournal(path.join(directory, "journal.jsonl"));
    const [recorded, now] = [await recordedPart(directory), asRecorded(config)];
    const isSame = isDeepStrictEqual(recorded, now);
    // A run may have lost its journal.
    const isUsed = commits.length > 0 || isThere(path.join(directory, "rounds"));
    if (isUsed && !isSame && !overwrite) {
      const isSameConfig = isDeepStrictEqual(recorded?.config, now.config);
      const error = otherConfigError(directory, hasEnded, isSameConfig ? changedPolicies(recorded?.policies, now.policies) : []);
      refusal.abort(error);
      throw error;
    }
    const kept = hasEnded && isSame ? await readRun(directory).catch(undefinedIfDamaged) : undefined;
    if (kept) {
      finished++;
      report("kept");
      return kept;
    }
    const make = async () => {
      report("started");
      const workers = launcher ? { ...config.workers, count: 1 } : config.workers;
      await federate({ ...config, workers, launcher, ...(isSame ? { resume: true } : { overwrite }), signal: stop }).result;
      finished++;
      report("finished");
      return readRun(directory);
    };
    // Once `stop` is aborted, current runs and those still in the queue reject with an InterruptedError.
    return queue.add(make);
  };
  return { get: (config) => keepOrMake(config).catch(failureOfOneRun) };
}

/** What makes a run the same as another: its config, and the files of policies of one's own by their hashes. */
interface Recorded {
  readonly config: unknown;
  readonly policies: unknown;
}

/** As run.json holds it. */
function asRecorded(config: RunConfig): Recorded {
  return { config: comparableConfig(toJson(describeConfig(config))), policies: describePolicyFiles(config) ?? null };
}

function otherConfigError(directory: string, hasEnded: boolean, changed: readonly string[]): ConfigError {
  const state = hasEnded ? "a finished run" : "a run";
  const what = changed.length > 0 ? `other policies: ${changed.join("; ")}` : "another config";
  const message = `${directory} holds ${state} with ${what}; rename the comparison, or replace the run with --overwrite`;
  return new ConfigError([{ path: "name", message }]);
}

/** Resuming a damaged run repairs or refuses it. */
function undefinedIfDamaged(error: unknown): undefined {
  if (!(error instanceof PrelortError) || error.kind !== "run") throw error;
}

/** A run that fails or diverges does not cost the other methods their results. */
function failureOfOneRun(error: unknown): PrelortError {
  if (!(error instanceof PrelortError) || error.kind === "interrupted" || error.kind === "config") throw error;
  return error;
}

/** Undefined if the run has not begun. */
async function recordedPart(directory: string): Promise<Recorded | undefined> {
  if (!isThere(path.join(directory, "run.json"))) return undefined;
  const { config, policies = null } = await readRecord(directory);
  return { config: comparableConfig(config), policies };
}

function toJson(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}
