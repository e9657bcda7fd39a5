import { expect, test } from "vitest";
import { createLayout } from "../../../src/adapter/layout.ts";
import { validateRun } from "../../../src/config/build.ts";
import type { RunInput } from "../../../src/config/schema.ts";
import { allClients, fedRoRA, fLoRA, listRanks, productDeltas, segmentWise, withServerOptimizer } from "../../../src/index.ts";
import { diskOf } from "../../../src/planning/disk.ts";
import { clientsOf } from "../../../src/testing/index.ts";

// 4 values in and 4 out: rows of 8 values; and 10 values that are trained in full.
const layout = createLayout(
  { r: 4, tiers: [1, 4], scale: 1 },
  { modules: [{ name: "m", in: 4, out: 4 }], dense: [{ name: "h", shape: [10] }] },
);
const ROUND = 4 * (4 * 8 + 10);
const clients = clientsOf([{ r: 4 }, { r: 1 }]);

const disk = ({
  aggregation = segmentWise(),
  ...more
}: Partial<RunInput> & { readonly aggregation?: RunInput["strategy"]["aggregation"] } = {}) =>
  diskOf(
    validateRun({
      rounds: 3,
      model: { nameOrPath: "m", task: "causal-lm" },
      lora: { r: 4, tiers: [1, 4], target_modules: ["m"] },
      data: { path: "d", prompt: "", answer: "{b}", clients: 2 },
      strategy: { selection: allClients(), rankAssignment: listRanks([4, 1]), aggregation },
      ...more,
    }),
    { layout, tiers: [1, 4], selections: [clients, clients, clients.slice(0, 1)], merged: [5, 10, 14], updateBytes: (r) => 100 * r },
  );

test("a run keeps all its rounds, the updates of its largest round, and an adapter at each tier", () => {
  expect(disk()).toEqual({
    rounds: 4,
    roundBytes: 4 * ROUND + 4 * 8 * 29,
    updateBytes: 500,
    stateBytes: 0,
    adapterBytes: 4 * (8 + 10 + 32 + 10),
  });
  expect(disk({ spoolBytes: 200 }).updateBytes).toBe(200);
  expect(disk({ recordUpdates: true }).updateBytes).toBe(500 + 500 + 400);
});

test.each<[string, Partial<RunInput>, number]>([
  ["the last", { keepRounds: 1 }, 2],
  ["the last two", { keepRounds: 2 }, 3],
  ["the last and the best", { keepRounds: "best", evaluate: { best: { metric: "loss" } } }, 3],
  ["the last two and the best, which are all", { keepRounds: 2, evaluate: { best: { metric: "loss" } } }, 4],
  ["more than there are", { keepRounds: 50 }, 4],
])("a run that keeps %s has one round more while it commits", (_, keep, rounds) => {
  const merged = [0, 5, 10, 14].slice(-rounds).reduce((sum, rows) => sum + rows, 0);
  expect(disk(keep)).toMatchObject({ rounds, roundBytes: rounds * ROUND + 4 * 8 * merged });
  expect(disk(keep).adapterBytes).toBe(4 * 60 * (keep.evaluate ? 2 : 1));
});

test("FedRoRA keeps a magnitude of every direction for each client that trains", () => {
  expect(disk({ aggregation: fedRoRA() }).roundBytes).toBe(4 * (ROUND + 4 * 8) + 4 * 8 * 29);
});

test.each([
  ["momentum", withServerOptimizer(segmentWise(), { name: "momentum" }), 42],
  ["Adam", withServerOptimizer(segmentWise(), { name: "adam" }), 84],
  ["Adagrad", withServerOptimizer(segmentWise(), { name: "adagrad" }), 42],
  ["Yogi", withServerOptimizer(segmentWise(), { name: "yogi" }), 84],
  ["product deltas, at twice the rank", productDeltas(), 8 * 8 + 10],
  ["product deltas, at a rank of their own", productDeltas({ momentumRank: 3 }), 3 * 8 + 10],
  ["product deltas without momentum", productDeltas({ momentum: 0 }), 0],
  ["FLoRA with increments of one rank", fLoRA({ incrementRank: 2 }), 8 * 8],
])("each round holds what the server remembers: %s", (_, aggregation, values) => {
  expect(disk({ aggregation }).roundBytes - disk().roundBytes).toBe(4 * 4 * values);
});

test.each([
  ["adamw", 2 * 42 + 3, 2 * 18 + 3],
  [{ name: "sgd", momentum: 0.9 }, 42, 18],
  // Rows and columns of A [r, 4] and B [4, r], the vector, and three counts of steps.
  ["adafactor", 2 * (4 + 4) + 10 + 3, 2 * (1 + 4) + 10 + 3],
] as const)("with client_state: keep, the states of all clients and of a round's fits, of %o", (optimizer, four, one) => {
  expect(disk({ fit: { optimizer, clientState: "keep" } }).stateBytes).toBe(4 * 2 * (four + one));
});
