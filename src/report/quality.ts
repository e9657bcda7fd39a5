import type { Interval, RoundMetrics, TierMetrics } from "../records/metrics.ts";
import { formatNumber, formatPercent, NOTHING } from "./format.ts";
import type { RecordedClients } from "../records/client-table.ts";
import { total } from "./tails.ts";

/** The measure of a run's quality: accuracy, perplexity or F1 if the task has one, else its loss. */
export interface Quality {
  readonly name: "accuracy" | "perplexity" | "F1" | "loss";
  /** From 0 to 1, shown in %. */
  readonly isShare: boolean;
  readonly better: "higher" | "lower";
  /** The value for one tier; null if it was not finite. */
  of(tier: TierMetrics): number | null;
  /** The 95 % interval that the held-out examples allow; undefined if none is recorded. */
  interval(tier: TierMetrics): Interval | undefined;
  format(value: number | null): string;
  /** The signed change from one value to another. */
  formatChange(from: number | null, to: number | null): string;
}

export function qualityOf(rounds: readonly RoundMetrics[]): Quality {
  const isThere = ({ of }: Quality) => rounds.some(({ byTier }) => byTier.some((tier) => of(tier) !== null));
  return [accuracy, perplexity, f1].find(isThere) ?? loss;
}

/** Rounds in which the global adapter was evaluated. */
export function evaluatedRounds(rounds: readonly RoundMetrics[]): readonly RoundMetrics[] {
  return rounds.filter(({ byTier }) => byTier.length > 0);
}

/** The evaluation before training, if its metrics are there. */
export function untrainedRound(rounds: readonly RoundMetrics[]): RoundMetrics | undefined {
  return evaluatedRounds(rounds).find(({ round }) => round === 0);
}

export function tierAt(round: RoundMetrics | undefined, r: number): TierMetrics | undefined {
  return round?.byTier.find((metrics) => metrics.r === r);
}

export function qualityAt(quality: Quality, round: RoundMetrics | undefined, r: number): number | null {
  const tier = tierAt(round, r);
  return tier ? quality.of(tier) : null;
}

/** Share of the most common label in the training data, about what always answering it would reach. Undefined for tasks without labels. */
export function majorityShare({ labelCounts: { keys, counts } }: Pick<RecordedClients, "labelCounts">): number | undefined {
  const totals = new Map<number, number>();
  for (const [pair, key] of keys.entries()) totals.set(key, (totals.get(key) ?? 0) + (counts[pair] as number));
  const all = total(totals.values());
  let most = 0;
  for (const held of totals.values()) most = Math.max(most, held);
  return all > 0 ? most / all : undefined;
}

/** `recorded`: its name in metrics.jsonl, if that is another. */
const called = (name: Quality["name"], recorded: string = name) => ({
  name,
  interval: ({ intervals = [] }: TierMetrics) => intervals.find((interval) => interval.name === recorded),
});

const share = {
  isShare: true,
  better: "higher",
  format: formatPercent,
  formatChange: (from: number | null, to: number | null) =>
    from === null || to === null ? NOTHING : `${signed(100 * (to - from), 1)} points`,
} as const;

const accuracy: Quality = { ...called("accuracy"), ...share, of: (tier) => tier.accuracy };

const f1: Quality = {
  ...called("F1", "f1"),
  ...share,
  of: ({ own }) => own.find(({ name }) => name === "f1")?.value ?? null,
};

const perplexity: Quality = {
  ...called("perplexity"),
  isShare: false,
  better: "lower",
  of: (tier) => tier.perplexity,
  format: (value) => formatNumber(value, 2),
  formatChange: (from, to) => (from === null || to === null || from === 0 ? NOTHING : `${signed(100 * (to / from - 1), 1)} %`),
};

const loss: Quality = {
  ...called("loss"),
  isShare: false,
  better: "lower",
  of: (tier) => tier.loss,
  format: (value) => formatNumber(value),
  formatChange: perplexity.formatChange,
};

function signed(value: number, digits: number): string {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;
}
