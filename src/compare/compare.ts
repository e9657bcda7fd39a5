import type { Comparison } from "../config/comparison.ts";
import { PrelortError } from "../errors.ts";
import { allSettled } from "./all-settled.ts";
import { type LearningRates, searchLearningRates } from "./learning-rate-search.ts";
import { type Budget, type Outcome, outcomesOf } from "./outcome.ts";
import { atEqualCompute, type PlannedRun, plannedRuns } from "./planned-runs.ts";
import { createRuns, type Runs, type RunsOptions } from "./runs.ts";
import { type ConfigOf, configsOver, requireOneSetting } from "./setting.ts";

export interface CompareOptions extends RunsOptions {
  /** Overrides of the setting, as `--set` takes them, for every method. */
  readonly set?: readonly string[] | undefined;
}

/** The result of a comparison, as `compare.json` holds it. */
export interface ComparisonResult {
  readonly name: string;
  readonly reference: string;
  readonly seeds: readonly number[];
  readonly budgets: readonly Budget[];
  readonly tiers: readonly number[];
  /** By family; null if the setting's own is used. */
  readonly learningRates: LearningRates;
  readonly outcomes: readonly Outcome[];
  /** Its runs trained side by side: the figures of single runs up to rounding. */
  readonly isSideBySide: boolean;
  /** Runs that failed, and why. */
  readonly missing: readonly string[];
}

/**
 * Runs every method with every seed, at equal rounds and, if its steps cost more than plain ones, at equal compute too.
 * Each run is like one of `prelort run`, in a folder below the comparison's. Finished runs with the same config are kept and
 * unfinished ones resumed, so a comparison that was stopped continues where it was.
 */
export async function compare(comparison: Comparison, options: CompareOptions = {}): Promise<ComparisonResult> {
  const configOf = configsOver(comparison, options.set);
  // Reports everything that is wrong with any method before a run starts.
  await requireOneSetting(comparison.methods, configOf);
  const refusal = new AbortController();
  const runs = createRuns(options, refusal);
  try {
    return await measureMethods(comparison, configOf, runs);
  } catch (error) {
    // A refusal interrupts the other runs, and their errors may come first.
    throw refusal.signal.aborted ? refusal.signal.reason : error;
  }
}

async function measureMethods(comparison: Comparison, configOf: ConfigOf, runs: Runs): Promise<ComparisonResult> {
  const { name, reference, seeds, budgets } = comparison;
  const learningRates = await searchLearningRates(comparison, configOf, runs);
  const measured = plannedRuns(comparison, learningRates).map(async (planned) => {
    const atRounds = await makeRun(planned, configOf, runs);
    const again = budgets.includes("compute") ? atRounds.equalCompute : undefined;
    return again ? [atRounds, await makeRun(again, configOf, runs)] : [atRounds];
  });
  const made = (await allSettled(measured)).flat();
  const outcomes = made.flatMap((run) => run.outcomes);
  const tiers = outcomes[0]?.byTier.map(({ r }) => r) ?? [];
  const missing = made.flatMap(({ failure = [] }) => failure).toSorted();
  return { name, reference, seeds, budgets, tiers, learningRates, outcomes, isSideBySide: runs.isSideBySide, missing };
}

interface MadeRun {
  readonly outcomes: readonly Outcome[];
  /** The same run at equal compute, if its steps cost more than plain ones. */
  readonly equalCompute?: PlannedRun | undefined;
  /** Name of the run and why it failed. */
  readonly failure?: string;
}

async function makeRun(planned: PlannedRun, configOf: ConfigOf, runs: Runs): Promise<MadeRun> {
  const { name, method, seed, budget } = planned;
  const config = await configOf(method, [...planned.set, `name=${name}`]);
  const run = await runs.get(config);
  if (run instanceof PrelortError) return { outcomes: [], failure: `${name}: ${run.message}` };
  const { localSteps, lr } = config.fit;
  return {
    outcomes: outcomesOf({ method: method.name, seed, budget, lr, localSteps }, run),
    equalCompute: atEqualCompute(planned, config.fit, run.rounds),
  };
}
