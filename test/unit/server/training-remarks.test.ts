import { expect, test } from "vitest";
import { remarksOnTraining } from "../../../src/server/training-remarks.ts";
import { validateRun } from "../../../src/config/build.ts";
import { allClients, listRanks, segmentWise } from "../../../src/index.ts";

const configWith = (packing: boolean) =>
  validateRun({
    rounds: 1,
    model: { nameOrPath: "m", task: "causal-lm" },
    lora: { r: 2, tiers: [2], target_modules: ["m"] },
    data: { path: "d", text: "{a}", clients: 2, maxLength: 16, packing },
    strategy: { selection: allClients(), rankAssignment: listRanks([2, 2]), aggregation: segmentWise() },
  });

const client = (label_counts: number[], n_truncated = 0) => ({ id: "c", n: 4, n_eval: 0, label_counts, mix: [], n_tokens: 9, n_truncated });
const remarks = ["a remark on the data"];

test("remarks on labels that no client trains on precede the worker's own remarks", () => {
  const remarksFor = (...clients: ReturnType<typeof client>[]) =>
    remarksOnTraining(configWith(false), { labels: ["animal", "food", "tool"], clients, remarks });
  expect(remarksFor(client([3, 1, 0]), client([0, 0, 4]))).toEqual(remarks);
  expect(remarksFor(client([4, 0, 0]), client([0, 0, 4]))).toEqual(["label food has no training example", ...remarks]);
  expect(remarksFor(client([4, 0, 0]), client([4, 0, 0]))).toEqual(["labels food, tool have no training example", ...remarks]);
});

test("a remark names at most 20 untrained labels and counts the rest", () => {
  const labels = Array.from({ length: 24 }, (_, index) => `t${index}`);
  const [remark] = remarksOnTraining(configWith(false), { labels, clients: [client([4])], remarks });
  expect(remark).toMatch(/\bt1, .*, t20 and 3 more\b/);
});

test("there is a remark if every training example is truncated, except with packing, which counts rows", () => {
  const remarksFor = (packing: boolean, ...cut: number[]) =>
    remarksOnTraining(configWith(packing), { labels: [], clients: cut.map((n) => client([], n)), remarks: [] });
  expect(remarksFor(false, 4, 4)).toEqual([expect.stringMatching(/\bdata\.max_length\b.*\b16 tokens\b/)]);
  expect(remarksFor(false, 4, 3)).toEqual([]);
  expect(remarksFor(true, 4, 4)).toEqual([]);
});
