import type { TierMetrics } from "../records/metrics.ts";

type Value = (tier: TierMetrics) => number | null;

/**
 * Area under the rank–quality curve over log2(rank), by the trapezoid rule, divided by its width: a mean over the
 * ranks in which every doubling weighs the same, in the quality's own unit (AURAC for accuracy, after
 * MatryoshkaLoRA). Null when any tier's value is missing; with a single tier its value.
 */
export function areaUnderRanks(tiers: readonly TierMetrics[], valueOf: Value): number | null {
  const points = tiers.map((tier) => ({ x: Math.log2(tier.r), y: valueOf(tier) }));
  const [first, last] = [points.at(0), points.at(-1)];
  if (!first || !last || points.some(({ y }) => y === null)) return null;
  if (first === last) return first.y;
  const area = points.slice(1).reduce((sum, { x, y }, place) => {
    const before = points[place] as { readonly x: number; readonly y: number };
    return sum + ((x - before.x) * ((y ?? 0) + before.y)) / 2;
  }, 0);
  return area / (last.x - first.x);
}

/** The worst tier's value; null when any is missing. */
export function worstTier(tiers: readonly TierMetrics[], valueOf: Value, better: "higher" | "lower"): number | null {
  const values = tiers.map(valueOf);
  if (values.length === 0 || values.some((value) => value === null)) return null;
  return better === "higher" ? Math.min(...(values as number[])) : Math.max(...(values as number[]));
}
