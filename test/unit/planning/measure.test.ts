import { expect, test } from "vitest";
import { predict, proposeSlots } from "../../../src/planning/measure.ts";
import { makespan } from "../../../src/planning/makespan.ts";
import type { RankedClient } from "../../../src/strategy/strategy.ts";

test("the makespan assigns each task to the worker that is free first, and ends with the last task", () => {
  expect(makespan([], 2)).toBe(0);
  expect(makespan([5, 3, 2, 1], 1)).toBe(11);
  // 5 | 3 2 1: the second worker is free at 3 and at 5; then either can take the last task.
  expect(makespan([5, 3, 2, 1], 2)).toBe(6);
  expect(makespan([5, 1, 1], 3)).toBe(5);
});

const client = (r: number): RankedClient => ({ id: `c${r}`, index: 0, size: 10, labelCounts: [], profile: {}, r });
const measured = {
  tiers: [
    { r: 1, stepSeconds: 0.1, fitSeconds: 1, steps: 10, peakMemoryBytes: 1e9 },
    { r: 8, stepSeconds: 0.4, fitSeconds: 4, steps: 10, peakMemoryBytes: 3e9 },
  ],
  exampleSeconds: 0.5,
  generateSeconds: 0.25,
};

test("a prediction counts each round's fits, highest ranks first, and the shards of each evaluation", () => {
  const selections = [
    [client(1), client(1), client(8)],
    [client(1), client(1)],
    [client(8), client(8)],
  ];
  const fit = { localSteps: 10, batchSize: 4, gradientAccumulationSteps: 1 };
  const evaluate = { every: 2, batchSize: 4, shardSize: 4, maxNewTokens: 8, samples: 0 };
  const known = { selections, evalExamples: 6, evaluatedTiers: 4, ownExamples: [2, 0], workers: 2 };
  // Fits take 4 (8 | 1 1), 1 and 4 s. Shards of 4 and 2 examples take 2 and 1 s; the client's own 2, at one of four ranks, 0.25 s.
  // Evaluated before training and after round 2, beside the fits of rounds 1 (8 | 1 1 2, then 1) and 3 (8 | 8, then 2), and at the end.
  // Answers of 4 and 2 examples take 1 and 0.5 s more: in round 1 (the workers are then free at 5.25 and 5 s), and at the end.
  expect(predict({ fit, evaluate, rounds: 3 }, measured, known)).toEqual({
    workers: 2,
    fitSecondsPerRound: 3,
    evaluateSeconds: 2,
    runSeconds: 5.5 + 1 + 6 + 2 + 1,
  });
  // With epochs, a client of 10 examples takes 2·10 / 4 = 5 steps: half of 10 steps less, so 0.5 and 2 s.
  expect(predict({ fit: { ...fit, epochs: 2 }, evaluate, rounds: 3 }, measured, known).fitSecondsPerRound).toBe((2 + 0.5 + 2) / 3);
  // With answers in every evaluation, the workers of round 3, free at 6 and 5.25 s, take 0.5 and 1 s more.
  const best = { metric: "rouge_l", at: "area" } as const;
  expect(predict({ fit, evaluate: { ...evaluate, best }, rounds: 3 }, measured, known).runSeconds).toBe(5.5 + 1 + 6.5 + 2 + 1);
});

test.each([
  ["on a GPU, as many as fit in memory, each with a context", { type: "cuda", memoryBytes: 40e9 }, 1, 10],
  ["on a CPU, at most one for each group of cores", { type: "cpu", memoryBytes: 40e9 }, 4, 2],
  ["on a CPU, at most as many as fit in memory", { type: "cpu", memoryBytes: 8e9 }, 1, 2],
  ["at least one", { type: "cuda", memoryBytes: 2e9 }, 1, 1],
])("slots per device: %s", (_, device, threads, slotsPerDevice) => {
  expect(proposeSlots(measured, { name: "one", ...device }, threads, 8)).toMatchObject({ slotsPerDevice });
});

test("no slots are proposed if a worker cannot measure memory", () => {
  const unknown = { ...measured, tiers: measured.tiers.map((tier) => ({ ...tier, peakMemoryBytes: null })) };
  expect(proposeSlots(unknown, { type: "mps", name: "one", memoryBytes: 1e9 }, 1)).toBeNull();
  expect(proposeSlots(measured, { type: "cpu", name: "one", memoryBytes: null }, 1)).toBeNull();
});
