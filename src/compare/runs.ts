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
import { changedPolicies, differences } from "../records/resume-check.ts";
import { readRecord } from "../records/run-record.ts";
import { federate, type Run } from "../server/federate.ts";
import type { SharedPool } from "../server/shared-pool.ts";
import type { Lanes } from "../workers/lanes.ts";

/* The runs of a comparison: each is made once, and one that an earlier comparison finished is kept. */

export interface RunsOptions {
  /** Replace runs that an earlier comparison of the same name made with another config; otherwise they are refused. */
  readonly overwrite?: boolean | undefined;
  /** Number of runs at a time. */
  readonly jobs?: number | undefined;
  /** Of `createLanes`, for the workers of all runs, one for each; by default each run has workers of its own, as its config says. */
  readonly lanes?: Pick<Lanes, "launcher"> | undefined;
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
  readonly isSideBySide: boolean;
  /**
   * The finished run of this config, kept or made now; or the error it failed with, which does not concern other runs. With
   * `until`, a round that is evaluated, a run that goes no further than that; it goes on when it is asked for again.
   * Rejects if no other run should continue: after an interrupt or an error of the config.
   */
  get(config: RunConfig, until?: number): Promise<RecordedRun | PrelortError>;
}

/** For the workers of all runs, in place of their own; those at a time must then have one seed. */
interface OnPool {
  readonly pool?: SharedPool | undefined;
}

/** Aborts `refusal` if a run would replace one of another config, so that no other run is made in vain. */
export function createRuns(
  { jobs = 1, overwrite = false, lanes, pool, signal, onRun }: RunsOptions & OnPool,
  refusal: AbortController,
): Runs {
  const stop = signal ? AbortSignal.any([signal, refusal.signal]) : refusal.signal;
  // Every run listens to it.
  setMaxListeners(0, stop);
  const queue = new PQueue({ concurrency: jobs });
  let [planned, finished] = [0, 0];
  const keepOrMake = async (config: RunConfig, until: number): Promise<RecordedRun> => {
    const name = config.name ?? "";
    const place = planned++;
    const report = (state: Progress["state"]) => onRun?.({ name, state, finished, planned });
    const directory = path.resolve(config.runsDir, name);
    const { commits, hasEnded } = await readJournal(path.join(directory, "journal.jsonl"));
    const difference = differenceOf(await recordedPart(directory), { ...asRecorded(config), isBeside: lanes !== undefined });
    // A run may have lost its journal.
    const isUsed = commits.length > 0 || isThere(path.join(directory, "rounds"));
    if (isUsed && difference !== undefined && !overwrite) {
      const error = otherRunError(directory, hasEnded, difference);
      refusal.abort(error);
      throw error;
    }
    const hasBegun = difference === undefined && (hasEnded || commits.length > 0);
    const kept = hasBegun ? await readRun(directory).catch(undefinedIfDamaged) : undefined;
    if (kept && (hasEnded || isEvaluated(kept, until))) {
      finished++;
      report("kept");
      return kept;
    }
    const make = async () => {
      if (!stop.aborted) report("started");
      const { workers, ...own } = config;
      const onWorkers = pool ? { pool } : { workers: lanes ? { ...workers, count: 1 } : workers, launcher: lanes?.launcher };
      const begin = difference === undefined ? { resume: true } : { overwrite };
      const run = federate({ ...own, ...onWorkers, ...begin, signal: stop });
      if (until < config.rounds) await stopAfter(run, until);
      if (until >= config.rounds || stop.aborted) await run.result;
      finished++;
      report("finished");
      return readRun(directory);
    };
    // In the order in which they were asked for, whichever was looked for first, so that a comparison that is stopped has whole seeds.
    // Once `stop` is aborted, current runs and those still in the queue reject with an InterruptedError.
    return queue.add(make, { priority: -place });
  };
  return {
    isSideBySide: lanes !== undefined,
    get: (config, until = config.rounds) => keepOrMake(config, until).catch(failureOfOneRun),
  };
}

/** Stops a run once this round is recorded. */
async function stopAfter(run: Run, round: number): Promise<void> {
  for await (const event of run) if (event.type === "round-end" && event.round >= round) return run.stop();
}

function isEvaluated({ rounds }: RecordedRun, round: number): boolean {
  return rounds.some((each) => each.round === round && each.byTier.length > 0);
}

/** What makes a run the same as another: its config, and the files of policies of one's own by their hashes. */
interface Recorded {
  readonly config: unknown;
  readonly policies: unknown;
  /** Whether it trained side by side with others; undefined if it has not begun to. */
  readonly isBeside: boolean | undefined;
}

/** As run.json holds it. */
function asRecorded(config: RunConfig): Omit<Recorded, "isBeside"> {
  return { config: comparableConfig(toJson(describeConfig(config))), policies: describePolicyFiles(config) ?? null };
}

/** What keeps a recorded run from being the one that is wanted, to follow "holds a run"; undefined if it is. */
function differenceOf(recorded: Recorded | undefined, wanted: Recorded): string | undefined {
  if (!isDeepStrictEqual(recorded?.config, wanted.config)) return `with another config${differingKeys(recorded?.config, wanted.config)}`;
  const policies = changedPolicies(recorded?.policies, wanted.policies);
  if (policies.length > 0) return `with other policies: ${policies.join("; ")}`;
  const isOtherwise = recorded?.isBeside !== undefined && recorded.isBeside !== wanted.isBeside;
  if (!isOtherwise) return undefined;
  return recorded.isBeside ? "that trained side by side with others" : "that trained alone, not side by side";
}

/** Such as " (fit.lr, rounds)"; empty if there was none. */
function differingKeys(was: unknown, is: unknown): string {
  const keys = was === undefined ? [] : differences("config", was, is).map(({ path: key }) => key.replace("config.", ""));
  return keys.length === 0 ? "" : ` (${keys.slice(0, 5).join(", ")}${keys.length > 5 ? " and more" : ""})`;
}

function otherRunError(directory: string, hasEnded: boolean, other: string): ConfigError {
  const state = hasEnded ? "a finished run" : "a run";
  const message = `${directory} holds ${state} ${other}; give the comparison or search another name, or replace the run with --overwrite`;
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
  const { config, policies = null, variables } = await readRecord(directory);
  const isBeside = variables === undefined ? undefined : "PRELORT_SIDE_BY_SIDE" in (variables as object);
  return { config: comparableConfig(config), policies, isBeside };
}

function toJson(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}
