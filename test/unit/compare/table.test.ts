import { describe, expect, it } from "vitest";
import { comparisonMarkdown, outcomesAt } from "../../../src/compare/table.ts";
import { result } from "../../support/comparison.ts";

describe("the table of a comparison", () => {
  const [equalRounds = "", equalCompute = ""] = comparisonMarkdown(result).split("## Equal compute");

  it("has mean ± standard deviation over the seeds, and no columns for metrics that the task lacks", () => {
    expect(equalRounds).toContain("| method | r=1 | r=2 | area | worst | local steps | passes | down | up |");
    expect(equalRounds).toContain("| ours | 3.100 ± 0.141 | 2.100 ± 0.141 | 2.600 ± 0.141 | 3.100 ± 0.141 | 4 | 100 | 2.0 KiB | 1.0 KiB |");
    expect(equalRounds).toContain("| costly (1 of 2 seeds) (2 fits failed) | 2.800 | 1.800 | 2.300 | 2.800 | 4 | 300 |");
  });

  it("pairs differences by seed, and prints in bold those that differ from zero after Holm's correction", () => {
    // Differences are −0.5 and −0.5 in the area, −0.5 and −0.7 at rank 1.
    // t(0.975, 1) = 12.706; sd of −0.5 and −0.7 is 0.1414; half = 12.706·0.1414/√2 = 1.271.
    expect(equalRounds).toContain("| peer | 2 | **−0.500 ± 0.000** | −0.600 ± 1.271 | −0.400 ± 1.271 | −0.600 ± 1.271 |");
  });

  it("shows, at equal compute, a costly method's runs with fewer steps and a plain method's runs at equal rounds", () => {
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

  it("omits a costly method at equal compute if that run failed, and has only the budgets of the comparison", () => {
    const failed = { ...result, outcomes: result.outcomes.filter(({ budget }) => budget === "rounds") };
    expect(outcomesAt(failed, "compute").map(({ method }) => method)).not.toContain("costly");
    expect(comparisonMarkdown({ ...result, budgets: ["compute"] })).not.toContain("## Equal rounds");
  });

  it("says of what the loss is: of answer tokens in a language model, else of examples", () => {
    const withPerplexity = (perplexity: number | null) => ({
      ...result,
      outcomes: result.outcomes.map((outcome) => ({ ...outcome, byTier: outcome.byTier.map((tier) => ({ ...tier, perplexity })) })),
    });
    expect(comparisonMarkdown(withPerplexity(3))).toContain("Loss on held-out answer tokens, nats (perplexity");
    expect(comparisonMarkdown(withPerplexity(null))).toContain("Loss on held-out examples: mean ±");
  });

  it("lists failed runs with the first line of their errors", () => {
    expect(equalCompute).toContain("- costly.seed-2: it diverged\n");
    expect(equalCompute).not.toContain("and more");
  });
});
