import type { RoundMetrics } from "../records/metrics.ts";
import { qualityOf, tierAt } from "../report/quality.ts";
import type { Estimate, RoundRow } from "./messages.ts";

/** The figures of a round as the page draws them, with the intervals that the held-out examples allow. */
export function roundRow(metrics: RoundMetrics): RoundRow {
  const { round, byTier, coverage, energy, fitLoss, bytesDown, bytesUp, reported, failed, late } = metrics;
  const quality = qualityOf([metrics]);
  const tiers = byTier.map(({ r }) => r);
  const estimates = tiers.map((r): Estimate => {
    const tier = tierAt(metrics, r);
    const interval = tier && quality.interval(tier);
    return [tier ? quality.of(tier) : null, interval?.low ?? null, interval?.high ?? null];
  });
  return {
    round,
    measure: quality.name,
    tiers,
    quality: estimates,
    examples: byTier[0]?.examples ?? 0,
    coverage: coverage.map(({ clients }) => clients),
    energy: energy.map((segment) => segment.energy),
    fitLoss,
    bytesDown,
    bytesUp,
    reported: reported.length,
    failed,
    late,
  };
}
