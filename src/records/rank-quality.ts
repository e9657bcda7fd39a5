import type { TierMetrics } from "./metrics.ts";

type Value = (tier: TierMetrics) => number | null;

/**
 * Area under the rank–quality curve over log2(rank), by the trapezoid rule, divided by its width: a mean over the ranks that
 * weights every doubling equally, in the unit of the quality (AURAC for accuracy, after MatryoshkaLoRA). Null if any tier's value
 * is missing; the value itself for a single tier.
 */
export function areaUnderRanks(tiers: readonly TierMetrics[], valueOf: Value): number | null {
  const points = tiers.map((tier) => ({ x: Math.log2(tier.r), y: valueOf(tier) }));
  const [first, last] = [points.at(0), points.at(-1)];
  if (!first || !last || points.some(({ y }) => y === null)) return null;
  if (first === last) return first.y;
  const area = points.slice(1).reduce((sum, { x, y }, index) => {
    const before = points[index] as { readonly x: number; readonly y: number };
    return sum + ((x - before.x) * ((y ?? 0) + before.y)) / 2;
  }, 0);
  return area / (last.x - first.x);
}

/** The worst tier's value; null if any is missing. */
export function worstTier(tiers: readonly TierMetrics[], valueOf: Value, better: "higher" | "lower"): number | null {
  const values = tiers.map(valueOf);
  if (values.length === 0 || values.some((value) => value === null)) return null;
  return better === "higher" ? Math.min(...(values as number[])) : Math.max(...(values as number[]));
}
