import { expect, it } from "vitest";
import { fLoRA } from "../../../src/strategy/aggregation/flora.ts";
import { segmentWise } from "../../../src/strategy/aggregation/segment-wise.ts";
import { withServerOptimizer } from "../../../src/strategy/aggregation/server-optimizer.ts";
import { withUpdateBound } from "../../../src/strategy/aggregation/update-bound.ts";
import { zeroPadDeltas } from "../../../src/strategy/aggregation/zero-pad.ts";
import { allClients } from "../../../src/strategy/selection/all.ts";
import { listRanks } from "../../../src/strategy/ranks/list.ts";
import type { Aggregation } from "../../../src/strategy/strategy.ts";
import { describeDoubts, describeMethod } from "../../../src/config/method.ts";

const allAlike = listRanks([1]);

function nameOf(aggregation: Aggregation, objective: string, fullWeight: number | null = null): string {
  return describeMethod({ fit: { objective, fullWeight }, strategy: { aggregation, rankAssignment: allAlike } } as Parameters<
    typeof describeMethod
  >[0]).name;
}

it("reserves the name prelort for our reading of the paper: segment-wise, sum, uniform weights", () => {
  expect(nameOf(segmentWise(), "sum")).toBe("prelort");
});

it("names any other method by its parts", () => {
  expect(nameOf(segmentWise(), "sum", 0.5)).toBe("segment-wise + sum, full weight 0.5");
  expect(nameOf(segmentWise(), "none", 0.5)).toBe("segment-wise + none");
  expect(nameOf(withServerOptimizer(segmentWise(), { name: "momentum" }), "sum")).toBe(
    "segment-wise, server momentum + sum, full weight uniform",
  );
  const median = segmentWise({ robust: { name: "median" }, minContributors: 5 });
  expect(nameOf(withUpdateBound(median, { factor: 4 }), "none")).toBe(
    "segment-wise, median, 5 contributors or none, update bound 4 + none",
  );
  expect(nameOf(segmentWise({ weights: "uniform" }), "sum")).toBe("segment-wise + sum, full weight uniform");
  expect(nameOf(zeroPadDeltas(), "none")).toBe("zero-pad-deltas + none");
  expect(nameOf(fLoRA({ incrementRank: 5 }), "none")).toBe("flora, increments of rank 5 + none");
});

it("names what clients keep between fits, which is not in our reading of the paper", () => {
  const fit = { objective: "sum", fullWeight: null, clientState: "keep" };
  const { name, note } = describeMethod({ fit, strategy: { aggregation: segmentWise(), rankAssignment: allAlike } } as never);
  expect(name).toBe("segment-wise, optimizers that clients keep between fits + sum, full weight uniform");
  expect(note).toMatch(/Ours, not the paper's: optimizers that clients keep between fits\.$/);
});

it("does not call a peer our reading of the paper", () => {
  const { note } = describeMethod({
    fit: { objective: "none", fullWeight: 0.5 },
    strategy: { aggregation: zeroPadDeltas(), rankAssignment: allAlike },
  } as never);
  expect(note).toMatch(/^Not PreLort/);
});

it("names every key that keeps the bytes from being reproducible", () => {
  const strategy = { selection: allClients(), rankAssignment: allAlike, aggregation: segmentWise() };
  const doubts = (given: object) =>
    describeDoubts({ closing: {}, model: { task: "causal-lm" }, workers: { devices: ["cpu"] }, strategy, ...given } as Parameters<
      typeof describeDoubts
    >[0]);
  expect(doubts({})).toEqual([]);
  expect(doubts({ closing: { quorum: 0.5 } })).toEqual([]);
  expect(doubts({ closing: { deadline: 5 } })).toEqual([expect.stringMatching(/^closing: .*journal/)]);
  expect(doubts({ workers: { devices: ["cuda:0", "cuda:1", "cpu"] } })[0]).toMatch(/^workers\.devices: .*\(cuda, cpu\)/);
  expect(doubts({ strategy: { ...strategy, rankAssignment: () => 1 } })[0]).toMatch(/^strategy\.rank_assignment: /);
  expect(doubts({ model: { task: "mine:Task" } })[0]).toMatch(/^model\.task: /);
  expect(doubts({ model: { task: "causal-lm", trustRemoteCode: true } })[0]).toMatch(/^model\.trust_remote_code/);
});
