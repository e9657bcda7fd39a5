import { expect, test } from "vitest";
import { remarksOnTraining } from "../../../src/server/training-remarks.ts";
import { startsOf } from "../../../src/protocol/client-columns.ts";
import { validateRun } from "../../../src/config/build.ts";
import { allClients, listRanks, type RunInput, segmentWise } from "../../../src/index.ts";

const configWith = (packing: boolean, fit: RunInput["fit"] = {}) =>
  validateRun({
    rounds: 1,
    fit,
    model: { nameOrPath: "m", task: "causal-lm" },
    lora: { r: 2, tiers: [2], target_modules: ["m"] },
    data: { path: "d", text: "{a}", clients: 2, maxLength: 16, packing },
    strategy: { selection: allClients(), rankAssignment: listRanks([2, 2]), aggregation: segmentWise() },
  });

const client = (label_counts: number[], n_truncated = 0) => ({ label_counts, n_truncated });
const columnsOf = (clients: readonly ReturnType<typeof client>[]) => {
  const pairs = clients.flatMap(({ label_counts }) => label_counts.map((count, key) => ({ count, key })).filter(({ count }) => count > 0));
  return {
    n: Uint32Array.from(clients, () => 4),
    nTruncated: Uint32Array.from(clients, ({ n_truncated }) => n_truncated),
    labelCounts: {
      starts: startsOf(Uint32Array.from(clients, ({ label_counts }) => label_counts.filter((count) => count > 0).length)),
      keys: Uint32Array.from(pairs, ({ key }) => key),
      counts: Uint32Array.from(pairs, ({ count }) => count),
    },
  };
};
const remarks = ["a remark on the data"];

test("remarks on labels that no client trains on precede the worker's own remarks", () => {
  const remarksFor = (...clients: ReturnType<typeof client>[]) =>
    remarksOnTraining(configWith(false), { labels: ["animal", "food", "tool"], remarks }, columnsOf(clients));
  expect(remarksFor(client([3, 1, 0]), client([0, 0, 4]))).toEqual(remarks);
  expect(remarksFor(client([4, 0, 0]), client([0, 0, 4]))).toEqual(["label food has no training example", ...remarks]);
  expect(remarksFor(client([4, 0, 0]), client([4, 0, 0]))).toEqual(["labels food, tool have no training example", ...remarks]);
});

test("a remark names at most 20 untrained labels and counts the rest", () => {
  const labels = Array.from({ length: 24 }, (_, index) => `t${index}`);
  const [remark] = remarksOnTraining(configWith(false), { labels, remarks }, columnsOf([client([4])]));
  expect(remark).toMatch(/\bt1, .*, t20 and 3 more\b/);
});

test("there is a remark if every training example is truncated, except with packing, which counts rows", () => {
  const remarksFor = (packing: boolean, ...cut: number[]) =>
    remarksOnTraining(configWith(packing), { labels: [], remarks: [] }, columnsOf(cut.map((n) => client([], n))));
  expect(remarksFor(false, 4, 4)).toEqual([expect.stringMatching(/\bdata\.max_length\b.*\b16 tokens\b/)]);
  expect(remarksFor(false, 4, 3)).toEqual([]);
  expect(remarksFor(true, 4, 4)).toEqual([]);
});

test("a warmup that no fit outlasts is told once the clients' sizes are known", () => {
  // Four examples in batches of two.
  const of = (fit: RunInput["fit"]) =>
    remarksOnTraining(configWith(false, { batchSize: 2, ...fit }), { labels: [], remarks: [] }, columnsOf([client([]), client([])]));
  expect(of({ epochs: 3, warmupSteps: 5 })).toEqual([]);
  expect(of({ epochs: 3, warmupSteps: 6 })).toEqual([expect.stringMatching(/warmup_steps is 6\b.*\b6 steps/)]);
  expect(of({ localSteps: 7, warmupSteps: 6 })).toEqual([]);
});
