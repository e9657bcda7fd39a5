import { describe, expect, test } from "vitest";
import { RefusedError } from "../../../../src/errors.ts";
import {
  bufferUpdates,
  componentsOf,
  factorise,
  participation,
  prefix,
  productSvd,
  segments,
  shares,
  trainedComponents,
} from "../../../../src/index.ts";
import { aggregate, clientsOf, layoutOf, randomAdapter, roundContext, updateOf, updatesOf } from "../../../../src/testing/index.ts";

/* The pieces that authors of aggregations import, as an author uses them. */

const clients = clientsOf([
  { size: 10, r: 1 },
  { size: 30, r: 4 },
  { size: 20, r: 2 },
]);
/** One module of 2 → 2, so that a row is [a1, a2, b1, b2]. */
const layout = layoutOf({ tiers: [1, 2], modules: [{ name: "m", in: 2, out: 2 }] });

describe("participation", () => {
  const context = roundContext(layoutOf({ tiers: [1, 2, 4] }), clients);
  const [first, second, third] = updatesOf(context) as [never, never, never];

  test("counts who reported, in the order of the clients, and what they trained", () => {
    const round = participation(context);
    round.count(third);
    round.count(first);
    expect(round.reportedFrom(0).map(({ id }) => id)).toEqual(["c0", "c2"]);
    expect(round.reportedFrom(2).map(({ id }) => id)).toEqual(["c2"]);
    expect(round.coverage()).toEqual([
      { r: 1, clients: 2, examples: 30 },
      { r: 2, clients: 1, examples: 20 },
      { r: 4, clients: 0, examples: 0 },
    ]);
    expect(round.tooFew(2)).toEqual([2]);
    expect(round.tooFew(3)).toEqual([1, 2, "dense"]);
  });

  test("refuses a second update, one of another client and one of another shape, and does not count them", () => {
    const round = participation(context);
    round.count(second);
    expect(() => round.count(second)).toThrow(RefusedError);
    expect(() => round.count({ ...(first as object), clientId: "c9" } as never)).toThrow(/c9/);
    expect(() => round.count(updateOf(context, { ...clients[0]!, r: 2 }, randomAdapter(context.layout, 2)))).toThrow(/rank 1.*rank 2/);
    expect(() => round.count({ ...(first as object), n: 11 } as never)).toThrow(/n 10.*n 11/);
    expect(round.reportedFrom(0).map(({ id }) => id)).toEqual(["c1"]);
    round.count(first);
    expect(round.reportedFrom(0)).toHaveLength(2);
  });
});

describe("bufferUpdates", () => {
  const counting = (state = {}) => ({
    context: roundContext(layoutOf({ tiers: [1, 2, 4] }), clients, { state }),
    aggregation: {
      distribute: prefix,
      begin: (context: Parameters<typeof bufferUpdates>[0]) =>
        bufferUpdates(context, (updates) => {
          const before = context.state["count"]?.[0] ?? 0;
          return { rows: context.global.rows.slice(), state: { count: Float32Array.of(before + updates.length) } };
        }),
    },
  });

  test("gives the updates in the order of the clients, and keeps the state that is returned", async () => {
    const { context, aggregation } = counting({ count: Float32Array.of(4) });
    const seen: string[][] = [];
    const spying = {
      ...aggregation,
      begin: (given: typeof context) =>
        bufferUpdates(given, (updates) => {
          seen.push(updates.map(({ clientId }) => clientId));
          return { rows: given.global.rows.slice() };
        }),
    };
    await aggregate(spying, context, updatesOf(context).toReversed());
    expect(seen).toEqual([["c0", "c1", "c2"]]);
    expect((await aggregate(aggregation, context, updatesOf(context).slice(1))).state).toEqual({ count: Float32Array.of(6) });
  });

  test("leaves adapter and state as they are in a round without reports", async () => {
    const { context, aggregation } = counting({ count: Float32Array.of(4) });
    const { global, state, coverage } = await aggregate(aggregation, context, []);
    expect(global.rows).toEqual(context.global.rows);
    expect(state).toEqual({ count: Float32Array.of(4) });
    expect(coverage.map(({ clients: count }) => count)).toEqual([0, 0, 0]);
  });
});

describe("sums of products", () => {
  const before = Float32Array.of(1, 0, 2, 0, 0, 1, 0, 3);
  const previous = Float32Array.of(5, 6, 7, 8, 5, 6, 7, 8);

  test("componentsOf and trainedComponents are weight·b·aᵀ of each row, which factorise adds up, also negative ones", () => {
    // e1·e1ᵀ·2 + e2·e2ᵀ·3, and 3·e1·e1ᵀ of it taken away.
    const components = [...componentsOf(before, 4), ...componentsOf(Float32Array.of(1, 0, 2, 0), 4, -1)];
    const rows = factorise(components, layout, previous);
    const root = Math.fround(Math.sqrt(3));
    expect([...rows.subarray(0, 4)].map(Math.abs)).toEqual([0, root, 0, root].map((value) => expect.closeTo(value, 6)));
    // Nothing else is left: A of the previous rows, B = 0.
    expect([...rows.subarray(4)]).toEqual([5, 6, 0, 0]);
    const context = roundContext(layout, clientsOf([{ size: 1, r: 2 }]), { global: { r: 2, rows: before, dense: new Float32Array(0) } });
    const update = updateOf(context, context.clients[0]!, {
      r: 2,
      rows: Float32Array.of(0, 0, 1, 0, 0, 0, 0, 0),
      dense: new Float32Array(0),
    });
    const second = factorise(trainedComponents(update, 2, 1), layout, previous);
    expect([...second.subarray(0, 4)].map(Math.abs)).toEqual([0, Math.sqrt(6), 0, Math.sqrt(6)].map((value) => expect.closeTo(value, 6)));
    const whole = factorise(trainedComponents(update, 1), layout, previous);
    const singular = [0, 1].map(
      (row) => Math.hypot(...whole.subarray(4 * row, 4 * row + 2)) * Math.hypot(...whole.subarray(4 * row + 2, 4 * row + 4)),
    );
    expect(singular).toEqual([expect.closeTo(3, 5), expect.closeTo(3, 5)]);
  });

  test("shares are each update's part of the examples, and segments those of the tiers", () => {
    const context = roundContext(layoutOf({ tiers: [1, 2, 4] }), clients);
    expect(shares(updatesOf(context))).toEqual([10 / 60, 30 / 60, 20 / 60]);
    expect(segments([1, 2, 4])).toEqual([
      { from: 0, to: 1 },
      { from: 1, to: 2 },
      { from: 2, to: 4 },
    ]);
  });

  test("wrong shapes and values that are not finite are refused with what was expected", () => {
    expect(() => factorise(componentsOf(before, 8), layout, previous)).toThrow(/components of 4 values.*8/);
    expect(() => factorise(componentsOf(before, 4), layout, previous.subarray(4))).toThrow(/2 × 4 values, got 4/);
    const stack = (...vectors: number[]) => ({ vectors: Float64Array.from(vectors), length: 2 });
    expect(() => productSvd(stack(1, 2), stack(1, 2, 3, 4), 1)).toThrow(/1 and 2/);
    expect(() => productSvd(stack(1, 2, 3), stack(1, 2, 3), 1)).toThrow(RangeError);
    expect(() => productSvd(stack(1, 2), stack(1, NaN), 1)).toThrow(/right\.vectors\[1\] = NaN/);
    expect(() => factorise(componentsOf(Float32Array.of(1, Infinity, 0, 0), 4), layout, previous)).toThrow(/Infinity/);
  });
});

test("combine that returns no rows is refused, since the last ones would seem to be kept", async () => {
  const context = roundContext(layout, clientsOf([{ size: 10, r: 1 }]));
  const wrong = { distribute: prefix, begin: () => bufferUpdates(context, () => ({ row: new Float32Array(8) }) as never) };
  await expect(aggregate(wrong, context, updatesOf(context))).rejects.toThrow(
    /must return \{ rows \} with a Float32Array, returned \{"row"/,
  );
});
