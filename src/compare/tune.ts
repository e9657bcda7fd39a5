import path from "node:path";
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
  /** Train every value to the end, in place of leaving out the worse half of them after a quarter and after half of the rounds. */
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
  /** Rounds that were trained, over all values and seeds, and how many the whole grid has. */
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
}

/**
 * Searches for `fit.lr` by successive halving (Jamieson and Talwalkar, arXiv 1502.07943): all values train a quarter of the rounds,
 * the better half of them half, and the better half of these all. A trial is a run like others, below `NAME-tune` in `runsDir`,
 * that is stopped and goes on, so a search that was stopped continues where it was. Throws a ConfigError with every issue before
 * anything starts, and a RunFailedError if training diverged at every value.
 */
export async function tune(input: RunInput, options: TuneOptions = {}): Promise<TuneResult> {
  const own = validateRun(input);
  const { values = [0.25, 0.5, 1, 2, 4].map((factor) => factor * own.fit.lr), seeds = [own.seed + 1], rounds = own.rounds } = options;
  refuse(own, values, seeds);
  const rungs = options.grid ? [rounds] : rungsOf(rounds);
  const name = `${own.name ?? "run"}-tune`;
  const configOf = (lr: number, seed: number) =>
    trialOf(input, { folder: path.join(own.runsDir, name), lr, seed, rounds, every: rungs[0]! });
  // Throws what is wrong with any of them.
  for (const lr of values) for (const seed of seeds) configOf(lr, seed);
  const refusal = new AbortController();
  // Trials stop and go on: workers of their own would start, and load the model, each time.
  const made = options.pool || options.lanes ? undefined : await createPool({ workers: own.workers, launcher: options.launcher });
  const runs = createRuns({ jobs: 2, ...options, ...(made && { pool: made }) }, refusal);
  try {
    const trials = await halve({ values, seeds, rungs }, configOf, runs);
    const reached = trials.map(({ losses }) => rungs[losses.length - 1] ?? 0);
    const chosen = bestOf(trials, rungs.length);
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

/** A quarter of the rounds, half of them, and all. */
export function rungsOf(rounds: number): readonly number[] {
  const first = Math.ceil(rounds / 4);
  return [...new Set([first, 2 * first, rounds])].filter((round) => round <= rounds);
}

function refuse({ seed }: RunConfig, values: readonly number[], seeds: readonly number[]): void {
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

/** Evaluated at the rungs alone, without generated text; not stopped by anything else, and delivered to no tracker. */
function trialOf(input: RunInput, { folder, lr, seed, rounds, every }: Trial): RunConfig {
  return validateRun({
    ...input,
    name: `lr-${lr}.seed-${seed}`.replace("+", ""),
    runsDir: folder,
    seed,
    rounds,
    fit: { ...input.fit, lr },
    evaluate: { ...input.evaluate, every, maxNewTokens: 0, samples: 0, best: undefined },
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
    const training = new Set(index === 0 ? values : survivors(trials, index));
    const losses = new Map<number, (number | null)[]>([...training].map((lr) => [lr, []]));
    // One seed after the other, since workers that runs share hold the data of one.
    for (const seed of seeds) {
      const asked = [...training].map(async (lr) => [lr, lossAt(round, await runs.get(configOf(lr, seed), round))] as const);
      for (const [lr, loss] of await allSettled(asked)) losses.get(lr)?.push(loss);
    }
    trials = trials.map((trial) => {
      const own = losses.get(trial.lr);
      return own ? { ...trial, losses: [...trial.losses, meanOf(own)] } : trial;
    });
  }
  return trials;
}

function lossAt(round: number, run: RecordedRun | PrelortError): number | null {
  return run instanceof PrelortError ? null : finalLoss(run.rounds.filter((each) => each.round <= round));
}

/** null if any of them is. */
function meanOf(losses: readonly (number | null)[]): number | null {
  return losses.includes(null) ? null : losses.reduce<number>((sum, loss) => sum + (loss ?? 0), 0) / losses.length;
}

/** The better half, rounded up, of the values that reached the last of these rungs; those that diverged are not among it. */
function survivors(trials: readonly TunedValue[], rungs: number): readonly number[] {
  const reached = trials.filter(({ losses }) => losses.length === rungs);
  const ordered = reached.filter(({ losses }) => losses.at(-1) !== null).toSorted((a, b) => a.losses.at(-1)! - b.losses.at(-1)!);
  if (ordered.length === 0) {
    const values = trials.map(({ lr }) => lr).join(", ");
    throw new RunFailedError(`training diverged or failed at every learning rate tried: ${values}; try lower ones`);
  }
  return ordered.slice(0, Math.ceil(reached.length / 2)).map(({ lr }) => lr);
}

function bestOf(trials: readonly TunedValue[], rungs: number): number {
  return survivors(trials, rungs)[0]!;
}
