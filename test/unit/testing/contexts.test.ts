import { expect, test } from "vitest";
import {
  type Aggregation,
  listRanks,
  randomSelection,
  roundRobinSelection,
  RunFailedError,
  segmentWise,
  tieredRanks,
  zeroPadDeltas,
} from "../../../src/index.ts";
import {
  aggregate,
  clientsOf,
  layoutOf,
  rankContext,
  roundContext,
  seededRng,
  selectionContext,
  updateOf,
  updatesOf,
  zeroAdapter,
} from "../../../src/testing/index.ts";

test("clients have by default ids c0, c1, …, ten examples and rank 1", () => {
  expect(clientsOf([{ r: 4 }, { size: 3 }])).toEqual([
    { id: "c0", index: 0, size: 10, r: 4, labelCounts: [], profile: {} },
    { id: "c1", index: 1, size: 3, r: 1, labelCounts: [], profile: {} },
  ]);
});

test("a seeded generator repeats itself, and another seed or purpose gives another stream", () => {
  expect(seededRng(3, "a").next()).toBe(seededRng(3, "a").next());
  expect(new Set([seededRng(3, "a").next(), seededRng(4, "a").next(), seededRng(3, "b").next()]).size).toBe(3);
});

test("in the context of a selection nobody has reported, unless a history is given", async () => {
  const clients = clientsOf([{}, {}, {}, {}]);
  expect(await roundRobinSelection({ fraction: 0.5 })(selectionContext(clients, { round: 2 }))).toEqual(["c2", "c3"]);
  const draw = async (seed: number) => randomSelection({ fraction: 0.5 })(selectionContext(clients, { seed }));
  expect(await draw(1)).toEqual(await draw(1));
  const { history, tiers, losses } = selectionContext(clients, { history: { c1: { round: 1, rmsLoss: 2 } } });
  expect([...history]).toEqual([["c1", { round: 1, rmsLoss: 2 }]]);
  expect([tiers, await losses(clients.slice(2))]).toEqual([[1], [1, 1]]);
});

test("a rank assigner is called with the clients and the tiers of a run", () => {
  const clients = clientsOf([{}, {}]);
  const context = rankContext(clients, { tiers: [2, 8] });
  expect(clients.map((client) => listRanks([8, 2])(client, context))).toEqual([8, 2]);
  expect(clients.map((client) => tieredRanks({ 8: 0.5, 2: 0.5 })(client, context)).toSorted((a, b) => a - b)).toEqual([2, 8]);
});

test("one call makes the updates of a round, and another aggregates them", async () => {
  const layout = layoutOf({ tiers: [1, 2], dense: [{ name: "head.bias", shape: [3] }] });
  const context = roundContext(layout, clientsOf([{ r: 1, size: 30 }, { r: 2 }]));
  const [small, large] = updatesOf(context);
  const { global, coverage } = await aggregate(segmentWise(), context, [large!, small!]);
  const expected = context.global.rows.map((value, index) =>
    index < 8 ? value + 0.75 * small!.delta.rows[index]! + 0.25 * large!.delta.rows[index]! : value + large!.delta.rows[index]!,
  );
  for (const [index, value] of global.rows.entries()) expect(value).toBeCloseTo(expected[index]!, 6);
  expect(global.dense).toHaveLength(3);
  expect(coverage).toEqual([
    { r: 1, clients: 2, examples: 40 },
    { r: 2, clients: 1, examples: 10 },
  ]);
  expect(updatesOf(context)[1]!.delta).toEqual(large!.delta);
  expect(updatesOf(context, 1)[0]!.delta.rows).not.toEqual(small!.delta.rows);
});

test("an update contains the prefix of the global adapter that its client received", () => {
  const context = roundContext(layoutOf(), clientsOf([{ r: 2 }]));
  const delta = zeroAdapter(context.layout, 2);
  expect(updateOf(context, context.clients[0]!, delta)).toEqual({
    clientId: "c0",
    r: 2,
    n: 10,
    delta,
    received: { r: 2, rows: context.global.rows.slice(0, 16), dense: new Float32Array() },
  });
});

test("an aggregation that reads updates from disk can read them", async () => {
  const context = roundContext(
    layoutOf(),
    clientsOf([
      { r: 4, size: 1 },
      { r: 4, size: 1 },
      { r: 4, size: 7 },
    ]),
  );
  const levels = [1, 2, 9].map((level, index) => {
    const { width } = context.layout;
    return updateOf(context, context.clients[index]!, { r: 4, rows: new Float32Array(4 * width).fill(level), dense: new Float32Array() });
  });
  const { global } = await aggregate(segmentWise({ robust: { name: "median" } }), context, levels);
  for (const [index, value] of global.rows.entries()) expect(value).toBeCloseTo(context.global.rows[index]! + 2, 6);
});

test("an aggregation that returns an adapter of another shape is refused as in a run", async () => {
  const broken: Aggregation = {
    ...zeroPadDeltas(),
    begin: ({ layout }) => ({ add() {}, finish: () => ({ global: zeroAdapter(layout, 1), coverage: [] }) }),
  };
  const context = roundContext(layoutOf(), clientsOf([{}]));
  const refused = aggregate(broken, context, updatesOf(context));
  await expect(refused).rejects.toThrow(RunFailedError);
  await expect(refused).rejects.toThrow(/\b4\b.*\b32\b.*\b1\b.*\b8\b/);
});
