import type { ComparisonResult } from "../../src/compare/compare.ts";
import type { Outcome } from "../../src/compare/outcome.ts";
import { NOTHING_TRAINED, type RoundMetrics } from "../../src/records/metrics.ts";
import { tierMetrics } from "./tier-metrics.ts";

/** Tiers 1, 2 and so on, with these losses. */
function tiersWithLosses<L extends number | null>(losses: readonly L[]) {
  return losses.map((loss, index) => tierMetrics(index + 1, { loss, perplexity: loss === null ? null : Math.exp(loss) }));
}

/** Round 1 with these losses at tiers 1, 2 and so on. */
export function roundWithLosses(losses: readonly (number | null)[], failed: readonly string[] = []): RoundMetrics {
  return { round: 1, byTier: tiersWithLosses(losses), merged: null, byClient: [], energy: [], ...NOTHING_TRAINED, failed };
}

/** Two tiers with these losses, after the last round and in round 2. */
export function outcome(method: string, seed: number, losses: readonly [number, number], more: Partial<Outcome> = {}): Outcome {
  const byTier = tiersWithLosses(losses);
  const [one, two] = losses;
  return {
    method,
    seed,
    budget: "rounds",
    lr: 0.01,
    localSteps: 4,
    byTier,
    byClient: [],
    energy: [],
    rounds: [
      { round: 0, byTier: byTier.map((tier) => ({ ...tier, loss: 5 })) },
      { round: 2, byTier },
    ],
    coverage: [],
    summary: {
      areaLoss: (one + two) / 2,
      areaAccuracy: null,
      worstLoss: Math.max(one, two),
      worstAccuracy: null,
      ownLoss: null,
      ownAccuracy: null,
      areaRougeL: null,
    },
    failedFits: 0,
    passesPerStep: 1,
    passes: 100,
    bytesDown: 2048,
    bytesUp: 1024,
    seconds: 1,
    ...more,
  };
}

/** Three methods over two seeds; the steps of one cost three passes, and its second seed is missing. */
export const result: ComparisonResult = {
  name: "trial",
  reference: "ours",
  seeds: [1, 2],
  budgets: ["rounds", "compute"],
  tiers: [1, 2],
  learningRates: null,
  isSideBySide: false,
  outcomes: [
    outcome("ours", 1, [3, 2]),
    outcome("ours", 2, [3.2, 2.2]),
    outcome("peer", 1, [3.5, 2.5]),
    outcome("peer", 2, [3.9, 2.5]),
    outcome("costly", 1, [2.8, 1.8], { passes: 300, passesPerStep: 3, failedFits: 2 }),
    outcome("costly", 1, [3.1, 2.1], { budget: "compute", passesPerStep: 3 }),
  ],
  missing: ["costly.seed-2: it diverged\nand more"],
};
