import path from "node:path";
import { isThere } from "../base/read-file.ts";
import { validateRun } from "../config/build.ts";
import type { RunConfig, RunInput } from "../config/schema.ts";
import { ConfigError, type ConfigIssue, PrelortError, RunFailedError } from "../errors.ts";
import type { RecordedRun } from "../records/read-run.ts";
import { createPool } from "../server/shared-pool.ts";
import type { WorkerLauncher } from "../workers/launch.ts";
import { allSettled } from "./all-settled.ts";
import { finalLoss } from "./learning-rate-search.ts";
import { createRuns, type Runs, type RunsOptions } from "./runs.ts";

export interface TuneOptions extends RunsOptions {
  /** How workers are started, as in the options of `federate`. */
  readonly launcher?: WorkerLauncher | undefined;
  /** Values of `fit.lr` to try. Default: the run's own times 1/4, 1/2, 1, 2 and 4. */
  readonly values?: readonly number[] | undefined;
  /** Seeds to try each value with; not the run's own. Default: the one after it. */
  readonly seeds?: readonly number[] | undefined;
  /** Rounds of a trial. Default: the run's own. */
  readonly rounds?: number | undefined;
  /** Train every value to the end. */
  readonly grid?: boolean | undefined;
}

/** What `tune` found, as `tune.json` holds it. */
export interface TuneResult {
  readonly name: string;
  readonly seeds: readonly number[];
  /** Rounds after which the worse half of the values is left out, and the last round. */
  readonly rungs: readonly number[];
  /** In the order of the values. */
  readonly trials: readonly TunedValue[];
  /** The value with the lowest loss after the last round. */
  readonly chosen: number;
  /** The chosen value is the smallest or the largest that was tried: a better one may lie beyond. */
  readonly isAtEnd: boolean;
  /** Rounds that were trained up to rungs, over all values and seeds, and how many the whole grid has. */
  readonly trainedRounds: number;
  readonly gridRounds: number;
  readonly isSideBySide: boolean;
}

export interface TunedValue {
  readonly lr: number;
  /**
   * At each rung that the value reached: mean loss over the tiers and the seeds, on the held-out examples. null if a trial
   * diverged or failed.
   */
  readonly losses: readonly (number | null)[];
  /** Why a trial failed; undefined if it only diverged. */
  readonly failure?: string | undefined;
}

/**
 * Searches for `fit.lr` by successive halving (Jamieson and Talwalkar, arXiv 1502.07943): all values train a quarter of the rounds,
 * rounded up, the better half of them twice that, and the better half of these all. A trial is a run like others, below `NAME-tune`
 * in `runsDir`, that is stopped and goes on, so a search that was stopped continues where it was. Trials share the config's workers,
 * so their rounds wait for every client: a deadline would judge how busy these are. Throws a ConfigError with every issue before
 * anything starts, and a RunFailedError, with the reasons, if no value is left.
 */
export async function tune(input: RunInput, options: TuneOptions = {}): Promise<TuneResult> {
  const own = validateRun(input);
  const { values = [0.25, 0.5, 1, 2, 4].map((factor) => factor * own.fit.lr), seeds = [own.seed + 1], rounds = own.rounds } = options;
  const name = `${own.name ?? "run"}-tune`;
  const folder = path.resolve(own.runsDir, name);
  refuse(own, { values, seeds, jobs: options.jobs, folder });
  const halving = rungsOf(rounds);
  const rungs = options.grid ? [rounds] : halving;
  // As in a search by halving, so that a grid goes on from one.
  const [every] = halving as [number];
  const configOf = (lr: number, seed: number) => trialOf(input, own, { folder, lr, seed, rounds, every });
  // Throws what is wrong with any of them.
  for (const lr of values) for (const seed of seeds) configOf(lr, seed);
  const refusal = new AbortController();
  // Trials stop and go on: workers of their own would start, and load the model, each time.
  const made = options.lanes ? undefined : await createPool({ workers: own.workers, launcher: options.launcher });
  try {
    const runs = createRuns({ jobs: 2, ...options, ...(made && { pool: made }) }, refusal);
    const trials = await halve({ values, seeds, rungs }, configOf, runs);
    // A value with a failed trial did not reach its last rung.
    const reached = trials.map(({ losses, failure }) => rungs[losses.length - (failure === undefined ? 1 : 2)] ?? 0);
    const [chosen] = survivors(trials, rungs) as [number];
    return {
      name,
      seeds,
      rungs,
      trials,
      chosen,
      isAtEnd: values.length > 1 && (chosen === Math.min(...values) || chosen === Math.max(...values)),
      trainedRounds: seeds.length * reached.reduce((sum, round) => sum + round, 0),
      gridRounds: seeds.length * values.length * rounds,
      isSideBySide: runs.isSideBySide,
    };
  } catch (error) {
    throw refusal.signal.aborted ? refusal.signal.reason : error;
  } finally {
    await made?.close();
  }
}

/** A quarter of the rounds, rounded up, twice that, and all. */
export function rungsOf(rounds: number): readonly number[] {
  const first = Math.ceil(rounds / 4);
  return [...new Set([first, 2 * first, rounds])].filter((round) => round <= rounds);
}

interface Asked extends Pick<TuneOptions, "jobs"> {
  readonly values: readonly number[];
  readonly seeds: readonly number[];
  readonly folder: string;
}

function refuse({ seed }: RunConfig, { values, seeds, jobs = 1, folder }: Asked): void {
  const issues: ConfigIssue[] = [
    ...(values.length === 0 || new Set(values).size < values.length
      ? [{ path: "values", message: `must be learning rates that differ, at least one; got [${values.join(", ")}]` }]
      : []),
    ...(seeds.length === 0 || new Set(seeds).size < seeds.length
      ? [{ path: "seeds", message: `must be seeds that differ, at least one; got [${seeds.join(", ")}]` }]
      : []),
    ...(seeds.includes(seed)
      ? [{ path: "seeds", message: `must not include the run's own seed (${seed}), or the value would be fitted to what it is judged on` }]
      : []),
    ...(Number.isInteger(jobs) && jobs > 0 ? [] : [{ path: "jobs", message: `must be a whole number from 1, got ${jobs}` }]),
    ...(isThere(path.join(folder, "run.json"))
      ? [{ path: "name", message: `the trials would go into ${folder}, which is the folder of a run: set another name` }]
      : []),
  ];
  if (issues.length > 0) throw new ConfigError(issues);
}

interface Trial {
  readonly folder: string;
  readonly lr: number;
  readonly seed: number;
  readonly rounds: number;
  readonly every: number;
}

/** Without what does not change the loss at the rungs, or would end it early; `minLr` keeps its ratio to the value. */
function trialOf(input: RunInput, own: RunConfig, { folder, lr, seed, rounds, every }: Trial): RunConfig {
  return validateRun({
    ...input,
    name: `lr-${lr}.seed-${seed}`.replace("+", ""),
    runsDir: folder,
    seed,
    rounds,
    fit: { ...input.fit, lr, minLr: (own.fit.minLr * lr) / own.fit.lr },
    evaluate: { ...input.evaluate, every, maxNewTokens: 0, samples: 0, best: undefined },
    closing: { ...input.closing, deadline: undefined, enough: undefined },
    stopWhen: undefined,
    keepRounds: "all",
    track: [],
    partialSums: false,
    recordUpdates: false,
  });
}

interface Search {
  readonly values: readonly number[];
  readonly seeds: readonly number[];
  readonly rungs: readonly number[];
}

async function halve(
  { values, seeds, rungs }: Search,
  configOf: (lr: number, seed: number) => RunConfig,
  runs: Pick<Runs, "get">,
): Promise<readonly TunedValue[]> {
  let trials: readonly TunedValue[] = values.map((lr) => ({ lr, losses: [] }));
  for (const [index, round] of rungs.entries()) {
    const training = index === 0 ? values : survivors(trials, rungs.slice(0, index));
    const reached = new Map<number, Reached[]>(training.map((lr) => [lr, []]));
    // One seed after the other, since workers that runs share hold the data of one.
    for (const seed of seeds) {
      const asked = training.map(async (lr) => [lr, lossAt(round, await runs.get(configOf(lr, seed), round))] as const);
      for (const [lr, outcome] of await allSettled(asked)) reached.get(lr)?.push(outcome);
    }
    trials = trials.map((trial) => withRung(trial, reached.get(trial.lr)));
  }
  return trials;
}

interface Reached {
  /** null if the trial diverged or failed. */
  readonly loss: number | null;
  readonly failure?: string | undefined;
}

function lossAt(round: number, run: RecordedRun | PrelortError): Reached {
  if (run instanceof PrelortError) return { loss: null, failure: run.message };
  return { loss: finalLoss(run.rounds.filter((each) => each.round <= round)) };
}

function withRung(trial: TunedValue, reached: readonly Reached[] | undefined): TunedValue {
  if (!reached) return trial;
  const losses = reached.map(({ loss }) => loss);
  const mean = losses.includes(null) ? null : losses.reduce<number>((sum, loss) => sum + (loss ?? 0), 0) / losses.length;
  const failure = reached.find((each) => each.failure !== undefined)?.failure;
  return { ...trial, losses: [...trial.losses, mean], ...(failure !== undefined && { failure }) };
}

/** Of the values that reached the last of these rungs, the better half, rounded up, best first; those without a loss are not among it. */
function survivors(trials: readonly TunedValue[], rungs: readonly number[]): readonly number[] {
  const reached = trials.filter(({ losses }) => losses.length === rungs.length);
  const ordered = reached.filter(({ losses }) => losses.at(-1) !== null).toSorted((a, b) => a.losses.at(-1)! - b.losses.at(-1)!);
  if (ordered.length > 0) return ordered.slice(0, Math.ceil(reached.length / 2)).map(({ lr }) => lr);
  const reasons = reached.map(({ lr, failure }) => `  ${lr}: ${failure ?? "training diverged; try lower values"}`);
  throw new RunFailedError(`no value of fit.lr is left at round ${rungs.at(-1)}:\n${reasons.join("\n")}`);
}
