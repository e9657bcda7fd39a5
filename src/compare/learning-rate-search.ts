import { type Comparison, type ComparisonMethod, setsLearningRate, slug } from "../config/comparison.ts";
import { PrelortError, RunFailedError } from "../errors.ts";
import type { RoundMetrics } from "../records/metrics.ts";
import { allSettled } from "./all-settled.ts";
import type { Runs } from "./runs.ts";
import type { ConfigOf } from "./setting.ts";

/** By family; null if the comparison uses the setting's own. */
export type LearningRates = Readonly<Record<string, LearningRate>> | null;

export interface LearningRate {
  readonly chosen: number;
  readonly method: string;
  /** Mean loss over the tiers of each value tried; null if the run diverged or failed. */
  readonly tried: readonly Trial[];
}

interface Trial {
  readonly lr: number;
  readonly loss: number | null;
  /** Why the run failed; undefined if it only diverged. */
  readonly failure?: string | undefined;
}

/** Tunes each family's learning rate with the first of its methods, on a seed that the comparison does not use. */
export async function searchLearningRates(
  { learningRates, methods }: Pick<Comparison, "learningRates" | "methods">,
  configOf: ConfigOf,
  runs: Pick<Runs, "get">,
): Promise<LearningRates> {
  if (!learningRates) return null;
  const { values, rounds, seed } = learningRates;
  const searches = familyRepresentatives(methods).map(async (method) => {
    const trials = values.map(async (lr) => {
      const name = `lr.${slug(method.family)}.${lr}`;
      const run = await runs.get(await configOf(method, [`seed=${seed}`, `rounds=${rounds}`, `fit.lr=${lr}`, `name=${name}`]));
      return run instanceof PrelortError ? { lr, loss: null, failure: run.message } : { lr, loss: finalLoss(run.rounds) };
    });
    return [method.family, chooseLearningRate(method.name, await allSettled(trials))] as const;
  });
  return Object.fromEntries(await allSettled(searches));
}

/** The first method of each family, out of those that do not set a learning rate of their own. */
export function familyRepresentatives<M extends Pick<ComparisonMethod, "family" | "set">>(methods: readonly M[]): readonly M[] {
  const tuned = methods.filter((method) => !setsLearningRate(method));
  const families = tuned.map(({ family }) => family);
  return tuned.filter(({ family }, index) => families.indexOf(family) === index);
}

/**
 * Mean loss over the tiers after the last round. Null if training diverged: a tier's loss is not finite, or a client failed
 * in any round, since a client that diverges fails all its attempts.
 */
export function finalLoss(rounds: readonly Pick<RoundMetrics, "byTier" | "failed">[]): number | null {
  const losses = rounds.at(-1)?.byTier.map(({ loss }) => loss) ?? [];
  if (losses.includes(null) || rounds.some(({ failed }) => failed.length > 0)) return null;
  const mean = losses.reduce<number>((sum, loss) => sum + (loss ?? 0), 0) / losses.length;
  return Number.isFinite(mean) ? mean : null;
}

/** The value with the lowest loss, the first of several. Throws if the method diverged at all of them. */
export function chooseLearningRate(method: string, tried: readonly Trial[]): LearningRate {
  const best = tried.reduce((a, b) => ((b.loss ?? Infinity) < (a.loss ?? Infinity) ? b : a));
  if (best.loss === null) {
    const reasons = tried.map(({ lr, failure }) => `  ${lr}: ${failure ?? "training diverged; add lower ones to learning_rates.values"}`);
    throw new RunFailedError(`${method} diverged or failed at every learning rate tried:\n${reasons.join("\n")}`);
  }
  return { chosen: best.lr, method, tried };
}
