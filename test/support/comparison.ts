import type { ComparisonResult } from "../../src/compare/compare.ts";
import type { Outcome } from "../../src/compare/outcome.ts";

/** Two tiers with these losses, which round 2 has too. */
export function outcome(method: string, seed: number, losses: readonly [number, number], more: Partial<Outcome> = {}): Outcome {
  const byTier = losses.map((loss, index) => ({
    r: index + 1,
    loss,
    perplexity: Math.exp(loss),
    accuracy: null,
    macroF1: null,
    rougeL: null,
    own: [],
    examples: 8,
  }));
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

/** Three methods over two seeds; one costs three passes per step and lacks its second seed. */
export const result: ComparisonResult = {
  name: "trial",
  reference: "ours",
  seeds: [1, 2],
  budgets: ["rounds", "compute"],
  tiers: [1, 2],
  learningRates: null,
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
