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

test("labels that no client trains on are remarked before the worker's own remarks", () => {
  const told = (...clients: ReturnType<typeof client>[]) =>
    remarksOnTraining(configWith(false), { labels: ["animal", "food", "tool"], clients, remarks });
  expect(told(client([3, 1, 0]), client([0, 0, 4]))).toEqual(remarks);
  expect(told(client([4, 0, 0]), client([0, 0, 4]))).toEqual(["label food has no training example", ...remarks]);
  expect(told(client([4, 0, 0]), client([4, 0, 0]))).toEqual(["labels food, tool have no training example", ...remarks]);
});

test("untrained labels beyond 20 are counted", () => {
  const labels = Array.from({ length: 24 }, (_, index) => `t${index}`);
  const [remark] = remarksOnTraining(configWith(false), { labels, clients: [client([4])], remarks });
  expect(remark).toMatch(/^labels t1, .*, t20 and 3 more have no training example$/);
});

test("it is remarked if every training example is cut, unless packing changes what is counted", () => {
  const told = (packing: boolean, ...cut: number[]) =>
    remarksOnTraining(configWith(packing), { labels: [], clients: cut.map((n) => client([], n)), remarks: [] });
  expect(told(false, 4, 4)).toEqual(["every training example is cut to data.max_length (16 tokens)"]);
  expect(told(false, 4, 3)).toEqual([]);
  expect(told(true, 4, 4)).toEqual([]);
});
