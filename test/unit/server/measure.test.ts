import { expect, test } from "vitest";
import { predict } from "../../../src/server/measure.ts";
import { makespan } from "../../../src/server/schedule.ts";
import type { RankedClient } from "../../../src/strategy/strategy.ts";

test("tasks go to whichever worker is free first, and the last one's end counts", () => {
  expect(makespan([], 2)).toBe(0);
  expect(makespan([5, 3, 2, 1], 1)).toBe(11);
  // 5 | 3 2 1: the second worker is free at 3 and at 5; then either takes the last.
  expect(makespan([5, 3, 2, 1], 2)).toBe(6);
  expect(makespan([5, 1, 1], 3)).toBe(5);
});

const client = (r: number): RankedClient => ({ id: `c${r}`, index: 0, size: 10, labelCounts: [], profile: {}, r });
const measured = {
  tiers: [
    { r: 1, stepSeconds: 0.1, fitSeconds: 1 },
    { r: 8, stepSeconds: 0.4, fitSeconds: 4 },
  ],
  exampleSeconds: 0.5,
};

test("a round is its fits, the highest ranks first, and an evaluation its shards; both are counted as often as they come", () => {
  const selections = [
    [client(1), client(1), client(8)],
    [client(1), client(1)],
    [client(8), client(8)],
  ];
  const evaluate = { every: 2, batchSize: 4, shardSize: 4, maxNewTokens: 0 };
  const known = { selections, evalExamples: 6, ownExamples: [2, 0], workers: 2 };
  // Fits take 4 (8 | 1 1), 1 and 4 s. Shards of 4 and 2 examples take 2 and 1 s; the client's own 2, at one of two ranks, 0.5 s.
  // Evaluated before training, after round 2 and after round 3.
  expect(predict({ rounds: 3, evaluate }, measured, known)).toEqual({
    workers: 2,
    fitSecondsPerRound: 3,
    evaluateSeconds: 2,
    runSeconds: 9 + 3 * 2,
  });
});
