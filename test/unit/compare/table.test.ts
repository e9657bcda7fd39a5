import { describe, expect, it } from "vitest";
import { comparisonMarkdown, outcomesAt } from "../../../src/compare/table.ts";
import { result } from "../../support/comparison.ts";

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
