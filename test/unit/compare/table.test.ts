import { describe, expect, it } from "vitest";
import type { ComparisonResult } from "../../../src/compare/compare.ts";
import type { Outcome } from "../../../src/compare/outcome.ts";
import { comparisonPicture } from "../../../src/compare/picture.ts";
import { comparisonMarkdown, outcomesAt } from "../../../src/compare/table.ts";

/** Two tiers with these losses, which are also those of round 2. */
function outcome(method: string, seed: number, losses: readonly [number, number], more: Partial<Outcome> = {}): Outcome {
  const byTier = losses.map((loss, place) => ({
    r: place + 1,
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

const result: ComparisonResult = {
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

describe("the table", () => {
  const [equalRounds = "", equalCompute = ""] = comparisonMarkdown(result).split("## Equal compute");

  it("has mean ± standard deviation over the seeds, and leaves out columns that the task does not have", () => {
    expect(equalRounds).toContain("| method | r=1 | r=2 | area | worst | local steps | passes | down | up |");
    expect(equalRounds).toContain("| ours | 3.100 ± 0.141 | 2.100 ± 0.141 | 2.600 ± 0.141 | 3.100 ± 0.141 | 4 | 100 | 2.0 KiB | 1.0 KiB |");
    expect(equalRounds).toContain("| costly (1 of 2 seeds) (2 fits failed) | 2.800 | 1.800 | 2.300 | 2.800 | 4 | 300 |");
  });

  it("pairs differences by seed: −0.5 and −0.5 at the area are certain, −0.5 and −0.7 at rank 1 are not", () => {
    // t(0.975, 1) = 12.706; sd of −0.5 and −0.7 is 0.1414; half = 12.706·0.1414/√2 = 1.271.
    expect(equalRounds).toContain("| peer | 2 | **−0.500 ± 0.000** | −0.600 ± 1.271 | −0.400 ± 1.271 | −0.600 ± 1.271 |");
  });

  it("takes a costly method's runs at equal compute where compute is equal, and a plain one's as they are", () => {
    expect(equalCompute).toContain("| costly (1 of 2 seeds) | 3.100 | 2.100 |");
    expect(equalCompute).toContain("| peer | 3.700 ± 0.283 |");
    expect(outcomesAt(result, "compute").map(({ method, budget }) => `${method} ${budget}`)).toEqual([
      "ours rounds",
      "ours rounds",
      "peer rounds",
      "peer rounds",
      "costly compute",
    ]);
  });

  it("leaves a costly method out where its run at equal compute is missing, and prints the budgets that were asked for", () => {
    const failed = { ...result, outcomes: result.outcomes.filter(({ budget }) => budget === "rounds") };
    expect(outcomesAt(failed, "compute").map(({ method }) => method)).not.toContain("costly");
    expect(comparisonMarkdown({ ...result, budgets: ["compute"] })).not.toContain("## Equal rounds");
  });

  it("names what failed, by its first line", () => {
    expect(equalCompute).toContain("- costly.seed-2: it diverged\n");
    expect(equalCompute).not.toContain("and more");
  });
});

it("the picture names every method once and draws both curves of each", () => {
  const svg = comparisonPicture(result);
  for (const method of ["ours", "peer", "costly"]) expect(svg.split(`>${method}</text>`)).toHaveLength(2);
  expect(svg.match(/aria-label="line"/g)).toHaveLength(2 * 3);
});
