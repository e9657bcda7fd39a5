import { describe, expect, it } from "vitest";
import { atEqualCompute, plannedRuns } from "../../../src/compare/planned-runs.ts";
import { roundWithLosses } from "../../support/comparison.ts";

const one = { name: "One & only", family: "a", set: {} };
const two = { name: "two", family: "b", seeds: [2], set: {} };
const [first, ...others] = plannedRuns({ seeds: [1, 2], methods: [one, two] }, null);

describe("the runs of a comparison", () => {
  it("are every method with each of its own seeds, seed by seed", () => {
    expect(first).toEqual({ name: "one-only.seed-1", method: one, seed: 1, budget: "rounds", set: ["seed=1"] });
    expect(others.map(({ name }) => name)).toEqual(["one-only.seed-2", "two.seed-2"]);
  });

  it("have the learning rate of their method's family", () => {
    const rate = (chosen: number) => ({ chosen, method: "m", tried: [] });
    const runs = plannedRuns({ seeds: [2], methods: [one, two] }, { a: rate(0.1), b: rate(0.2) });
    expect(runs.map(({ set }) => set)).toEqual([
      ["seed=2", "fit.lr=0.1"],
      ["seed=2", "fit.lr=0.2"],
    ]);
  });

  it("keep the learning rate that their method sets itself", () => {
    const rates = { a: { chosen: 0.1, method: "m", tried: [] } };
    const own = [{ "fit.lr": 3 }, { fit: { lr: 3 } }, { fit: { optimizer: "sgd" } }].map((set, index) => ({
      name: `m${index}`,
      family: "a",
      set,
    }));
    expect(plannedRuns({ seeds: [2], methods: own }, rates).map(({ set }) => set)).toEqual([
      ["seed=2"],
      ["seed=2"],
      ["seed=2", "fit.lr=0.1"],
    ]);
  });
});

describe("a run at equal compute", () => {
  /** A round in which `fits` clients trained. */
  const trained = (round: number, fits: number, passes: number) => ({
    ...roundWithLosses([1]),
    round,
    reported: Array.from({ length: fits }, (_, client) => `c${client}`),
    passes,
  });

  it("has as many local steps as cost what its steps would cost in plain training", () => {
    // 60 passes of 2 + 3 fits of 4 steps: 3 passes a step. 4 / 3 rounds to 1.
    const rounds = [trained(0, 0, 0), trained(1, 2, 24), trained(2, 3, 36)];
    expect(atEqualCompute(first!, { localSteps: 4 }, rounds)).toEqual({
      ...first,
      name: "one-only.seed-1.equal-compute",
      budget: "compute",
      set: ["seed=1", "fit.local_steps=1"],
    });
    // 1.5 passes a step: 6 of 9 steps.
    expect(atEqualCompute(first!, { localSteps: 9 }, [trained(1, 2, 27)])?.set).toContain("fit.local_steps=6");
  });

  it("has at least one local step", () => {
    expect(atEqualCompute(first!, { localSteps: 1 }, [trained(1, 1, 5)])?.set).toContain("fit.local_steps=1");
  });

  it("is not needed if a step costs no more than a plain one, or nobody trained", () => {
    expect(atEqualCompute(first!, { localSteps: 4 }, [trained(1, 2, 8)])).toBeUndefined();
    expect(atEqualCompute(first!, { localSteps: 4 }, [trained(1, 2, 7)])).toBeUndefined();
    expect(atEqualCompute(first!, { localSteps: 4 }, [trained(0, 0, 0)])).toBeUndefined();
  });
});
