import { describe, expect, it } from "vitest";
import { outcomesOf, passesPerStep } from "../../../src/compare/outcome.ts";
import type { RoundMetrics } from "../../../src/records/metrics.ts";
import type { RecordedRun } from "../../../src/records/read-run.ts";
import { roundWithLosses } from "../../support/comparison.ts";

const run = { method: "m", seed: 1, budget: "rounds", lr: 0.01, localSteps: 4 } as const;

const segment = (r: number, clients: number) => ({ r, clients, examples: 8 * clients });

/** Before training, and two rounds of which the first trains segment 2 and the last loses a client. */
const rounds: readonly RoundMetrics[] = [
  { ...roundWithLosses([5, 5]), round: 0 },
  {
    ...roundWithLosses([]),
    round: 1,
    reported: ["c0", "c1"],
    passes: 12,
    bytesDown: 30,
    bytesUp: 20,
    coverage: [segment(1, 2), segment(2, 1)],
  },
  {
    ...roundWithLosses([3, 2], ["c1"]),
    round: 2,
    reported: ["c0"],
    passes: 4,
    bytesDown: 10,
    bytesUp: 5,
    coverage: [segment(1, 1), segment(2, 0)],
  },
];

const timing = (phase: string, seconds: number) => ({ round: 1, phase, seconds });

function outcomes(ofRounds: readonly RoundMetrics[]) {
  const timings = [timing("fit", 2), timing("save", 100), timing("evaluate", 3)];
  return outcomesOf(run, { rounds: ofRounds, timings } as unknown as RecordedRun);
}

describe("the outcome of a run", () => {
  it("has the last round's quality and the cost of all rounds", () => {
    const [outcome, ...others] = outcomes(rounds);
    expect(others).toEqual([]);
    expect(outcome).toMatchObject({
      ...run,
      failedFits: 1,
      // 16 passes of 3 fits of 4 steps.
      passesPerStep: 16 / 12,
      passes: 16,
      bytesDown: 40,
      bytesUp: 25,
      seconds: 5,
      coverage: [
        { r: 1, share: 1 },
        { r: 2, share: 0.5 },
      ],
      summary: { areaLoss: 2.5, worstLoss: 3, areaAccuracy: null, ownLoss: null },
    });
    expect(outcome?.byTier.map(({ loss }) => loss)).toEqual([3, 2]);
  });

  it("has the rounds that were evaluated, and no others", () => {
    expect(outcomes(rounds)[0]?.rounds.map(({ round }) => round)).toEqual([0, 2]);
  });

  it("comes with one of the merged model if the method merges, with the same loss at every tier", () => {
    const merged = { ...roundWithLosses([1.5]).byTier[0]!, r: 4 };
    const both = outcomes([...rounds.slice(0, 2), { ...rounds[2]!, merged }]);
    expect(both.map(({ method }) => method)).toEqual(["m", "m (merged)"]);
    expect(both.map(({ byTier }) => byTier.map(({ r, loss }) => [r, loss]))).toEqual([
      [
        [1, 3],
        [2, 2],
      ],
      [
        [1, 1.5],
        [2, 1.5],
      ],
    ]);
    expect(both[1]?.byClient).toEqual([]);
  });

  it("a run without rounds has no outcome", () => {
    expect(outcomes([])).toEqual([]);
  });
});

describe("the passes of a step", () => {
  it("are 1 if nobody trained or no step was made", () => {
    expect(passesPerStep([rounds[0]!], 4)).toBe(1);
    expect(passesPerStep(rounds, 0)).toBe(1);
  });
});
