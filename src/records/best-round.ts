import { z } from "zod";
import { camelKeys } from "../base/case.ts";
import { modeOf } from "../config/best-metric.ts";
import type { BestSpec, StopSpec } from "../config/best-section.ts";
import { common } from "../config/sections.ts";
import type { RoundMetrics, TierMetrics } from "./metrics.ts";
import { areaUnderRanks, worstTier } from "./rank-quality.ts";
import { count } from "./schema.ts";

/*
 * Which round is the best so far, and whether the run ends here. Both follow from the config and the recorded metrics alone, so a
 * resumed run, a report and an export come to the same answer as the run itself.
 */

/** The best of the evaluated rounds, by `evaluate.best`. */
export const bestRound = z
  .strictObject({
    round: count,
    value: z.number(),
    metric: z.string(),
    /** A tier, `area` or `worst`. */
    at: z.union([count, z.enum(["area", "worst"])]),
  })
  .readonly();
export type BestRound = z.output<typeof bestRound>;

/** The last round of a run that ended before all of its rounds were trained, and why, by `stop_when`. */
export const earlyStop = z.strictObject({ round: count, reason: z.enum(["target", "patience"]) }).readonly();
export type EarlyStop = z.output<typeof earlyStop>;

/** What a config says about it. */
export interface Judging {
  readonly rounds: number;
  readonly evaluate: { readonly best?: BestSpec | undefined };
  readonly stopWhen?: StopSpec | undefined;
}

export interface Judged {
  /** Undefined before the first round whose metric has a value. Of equal rounds, the earliest. */
  readonly best: BestRound | undefined;
  readonly stopped: EarlyStop | undefined;
  /** Whether the next evaluation can end the run. */
  readonly mayStop: boolean;
}

/**
 * Judges the rounds evaluated so far, in order. Round 0, before training, is no candidate and ends nothing. A metric without a finite
 * value is no improvement. A run that trains all its rounds does not count as stopped.
 */
export function judge({ rounds, evaluate: { best: spec }, stopWhen }: Judging, metrics: readonly Evaluated[]): Judged {
  if (!spec) return { best: undefined, stopped: undefined, mayStop: false };
  const sign = modeOf(spec) === "max" ? 1 : -1;
  const { patience = Infinity, minDelta = 0, target = sign * Infinity } = stopWhen ?? {};
  let best: BestRound | undefined;
  /** The value that last counted as an improvement, and the evaluations since. */
  let [counted, since] = [-Infinity, 0];
  for (const { round, byTier } of metrics) {
    if (round === 0 || byTier.length === 0) continue;
    const value = valueOf(byTier, spec);
    const gain = value === null ? -Infinity : sign * value;
    if (value !== null && (!best || gain > sign * best.value)) best = { round, value, metric: spec.metric, at: spec.at };
    if (gain - counted > minDelta) [counted, since] = [gain, 0];
    else since++;
    const reason = gain >= sign * target ? "target" : since >= patience ? "patience" : undefined;
    if (stopWhen && reason && round < rounds) return { best, stopped: { round, reason }, mayStop: false };
  }
  return { best, stopped: undefined, mayStop: stopWhen !== undefined && (Number.isFinite(target) || since + 1 >= patience) };
}

type Evaluated = Pick<RoundMetrics, "round" | "byTier">;

/** Null if a tier that counts has no finite value. */
function valueOf(tiers: readonly TierMetrics[], { at, ...spec }: BestSpec): number | null {
  const of = (tier: TierMetrics) => finite(metricOf(tier, spec.metric));
  if (at === "area") return areaUnderRanks(tiers, of);
  if (at === "worst") return worstTier(tiers, of, modeOf(spec) === "max" ? "higher" : "lower");
  const tier = tiers.find(({ r }) => r === at);
  return tier ? of(tier) : null;
}

/** A metric by its name in a config; undefined if the tier was not evaluated for it. */
export function metricOf({ own, ...tier }: TierMetrics, metric: string): number | null | undefined {
  switch (metric) {
    case "loss":
    case "perplexity":
    case "accuracy":
    case "ece":
      return tier[metric];
    case "bits_per_byte":
      return tier.bitsPerByte;
    case "macro_f1":
      return tier.macroF1;
    case "rouge_l":
      return tier.rougeL;
    default:
      return own.find(({ name }) => name === metric)?.value;
  }
}

function finite(value: number | null | undefined): number | null {
  return value !== null && Number.isFinite(value) ? (value as number) : null;
}

const judging = z.object({ rounds: count, evaluate: common.evaluate, stopWhen: common.stopWhen });

/** Whether a run's config asks for the best round. */
export function asksForBest(config: unknown): boolean {
  return judging.safeParse(camelKeys(config)).data?.evaluate.best !== undefined;
}

/** The same from a run's record, whose config has YAML's spelling. Records of other versions may say nothing about it. */
export function judgeRecorded(config: unknown, metrics: readonly Evaluated[]): Judged {
  const { data } = judging.safeParse(camelKeys(config));
  return judge(data ?? { rounds: 0, evaluate: {} }, metrics);
}
