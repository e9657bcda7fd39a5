import type { RecordedRun } from "../records/read-run.ts";
import { areaUnderRanks, worstTier } from "../records/rank-quality.ts";
import type { RoundMetrics, TierMetrics } from "../records/metrics.ts";

/** Equal rounds; or equal compute, with fewer local steps in proportion to what a step costs more than one of plain training. */
export type Budget = "rounds" | "compute";

/** The results of one run of a comparison. */
export interface Outcome {
  readonly method: string;
  readonly seed: number;
  readonly budget: Budget;
  readonly lr: number;
  /** Mean over the fits. */
  readonly localSteps: number;
  /** After the last round. */
  readonly byTier: readonly TierMetrics[];
  readonly byClient: RoundMetrics["byClient"];
  readonly energy: RoundMetrics["energy"];
  /** Every evaluated round. */
  readonly rounds: readonly Pick<RoundMetrics, "round" | "byTier">[];
  /** Share of the rounds in which each segment, named by its tier, was trained. */
  readonly coverage: readonly { readonly r: number; readonly share: number }[];
  readonly summary: Summary;
  /** Fits that failed all their attempts, over all rounds; their rounds continued without them. */
  readonly failedFits: number;
  /** Forward/backward passes of a local step, averaged over the fits. */
  readonly passesPerStep: number;
  /** Forward/backward passes of all fits. */
  readonly passes: number;
  readonly bytesDown: number;
  readonly bytesUp: number;
  /** Time of the rounds' fits and evaluations. The only number here that is not reproducible. */
  readonly seconds: number;
}

/** Single numbers over the tiers or the clients. Null if the task does not have the metric. */
export interface Summary {
  readonly areaLoss: number | null;
  readonly areaAccuracy: number | null;
  readonly worstLoss: number | null;
  readonly worstAccuracy: number | null;
  /** Mean over the clients, each at its own rank on its own examples. */
  readonly ownLoss: number | null;
  readonly ownAccuracy: number | null;
  readonly areaRougeL: number | null;
}

export type RunOf = Pick<Outcome, "method" | "seed" | "budget" | "lr" | "localSteps">;

/**
 * The results of a finished run. A method that merges into the base model has two: its adapter truncated to each tier, and
 * "(merged)", the merged model, which is the same for all ranks.
 */
export function outcomesOf(run: RunOf, { rounds, timings }: RecordedRun): readonly Outcome[] {
  const last = rounds.at(-1);
  if (!last) return [];
  const total = (value: (round: RoundMetrics) => number) => rounds.reduce((sum, round) => sum + value(round), 0);
  const trained = rounds.filter(({ round }) => round > 0);
  const totals = {
    ...run,
    localSteps: meanSteps(rounds, run.localSteps),
    energy: last.energy,
    coverage: last.coverage.map(({ r }) => {
      const covered = trained.filter(({ coverage }) => coverage.some((segment) => segment.r === r && segment.clients > 0));
      return { r, share: covered.length / trained.length };
    }),
    failedFits: total(({ failed }) => failed.length),
    passesPerStep: passesPerStep(rounds, run.localSteps),
    passes: total(({ passes }) => passes),
    bytesDown: total(({ bytesDown }) => bytesDown),
    bytesUp: total(({ bytesUp }) => bytesUp),
    seconds: timings.reduce((sum, { phase, seconds }) => sum + (phase === "fit" || phase === "evaluate" ? seconds : 0), 0),
  };
  const outcome = (method: string, tiersOf: (round: RoundMetrics) => readonly TierMetrics[], byClient: RoundMetrics["byClient"]) => {
    const evaluated = rounds.filter(({ byTier }) => byTier.length > 0).map((round) => ({ round: round.round, byTier: tiersOf(round) }));
    const byTier = evaluated.at(-1)?.byTier ?? [];
    return { ...totals, method, byTier, byClient, rounds: evaluated, summary: summarise(byTier, byClient) };
  };
  const truncated = outcome(run.method, ({ byTier }) => byTier, last.byClient);
  if (!last.merged) return [truncated];
  const mergedTiers = ({ byTier, merged }: RoundMetrics) => byTier.map((tier) => ({ ...(merged ?? tier), r: tier.r }));
  return [truncated, outcome(`${run.method} (merged)`, mergedTiers, [])];
}

export function passesPerStep(rounds: readonly RoundMetrics[], localSteps: number): number {
  const steps = meanSteps(rounds, localSteps) * fitsOf(rounds);
  const passes = rounds.reduce((sum, round) => sum + round.passes, 0);
  return steps === 0 ? 1 : passes / steps;
}

/** Optimizer steps of a fit: `localSteps`, unless the rounds have their own. */
function meanSteps(rounds: readonly RoundMetrics[], localSteps: number): number {
  const counted = rounds.filter(({ steps }) => steps !== undefined);
  return counted.length === 0 ? localSteps : counted.reduce((sum, { steps = 0 }) => sum + steps, 0) / Math.max(1, fitsOf(counted));
}

function fitsOf(rounds: readonly RoundMetrics[]): number {
  return rounds.reduce((sum, { round, reported }) => sum + (round > 0 ? reported.length : 0), 0);
}

function summarise(byTier: readonly TierMetrics[], byClient: RoundMetrics["byClient"]): Summary {
  const [loss, accuracy] = [({ loss: value }: TierMetrics) => value, ({ accuracy: value }: TierMetrics) => value];
  return {
    areaLoss: areaUnderRanks(byTier, loss),
    areaAccuracy: areaUnderRanks(byTier, accuracy),
    worstLoss: worstTier(byTier, loss, "lower"),
    worstAccuracy: worstTier(byTier, accuracy, "higher"),
    ownLoss: mean(byClient.map(loss)),
    ownAccuracy: mean(byClient.map(accuracy)),
    areaRougeL: areaUnderRanks(byTier, ({ rougeL }) => rougeL),
  };
}

function mean(values: readonly (number | null)[]): number | null {
  if (values.length === 0 || values.some((value) => value === null)) return null;
  return values.reduce<number>((sum, value) => sum + (value ?? 0), 0) / values.length;
}
