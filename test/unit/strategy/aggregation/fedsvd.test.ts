import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ffaLora } from "../../../../src/strategy/aggregation/ffa-lora.ts";
import { fedSvd } from "../../../../src/strategy/aggregation/fedsvd.ts";
import type { RankedClient } from "../../../../src/strategy/strategy.ts";
import { clientsOf, layoutOf, roundContext, updateOf, zeroAdapter } from "../../../../src/testing/index.ts";
import { aggregate, difference, factorsOf, type Federation, moderateFederations, productsOf } from "../../../support/federations.ts";

const layout = layoutOf({ tiers: [1, 2], scale: 1, modules: [{ name: "m", in: 2, out: 2 }] });
const clients = clientsOf([
  { size: 3, r: 1 },
  { size: 1, r: 2 },
]);
const [low, high] = clients as [RankedClient, RankedClient];
/** A row is [a, a, b, b]; A is 2·e1 and 3·e2. */
const context = roundContext(layout, clients, { global: { ...zeroAdapter(layout, 2), rows: Float32Array.of(2, 0, 0, 0, 0, 3, 0, 0) } });
const sizes = (values: Float32Array) => Array.from(values, (value) => Number(Math.abs(value).toFixed(5)));

describe("FedSVD by hand", () => {
  it("averages B by segment, orders what has been learned by its size, and gives A unit rows", () => {
    const updates = [
      updateOf(context, low, { ...zeroAdapter(layout, 1), rows: Float32Array.of(0, 0, 4, 0) }),
      updateOf(context, high, { ...zeroAdapter(layout, 2), rows: Float32Array.of(0, 0, 0, 0, 0, 0, 0, 8) }),
    ];
    // B·A = ¾·4·2·e1·e1ᵀ + 8·3·e2·e2ᵀ
    expect(sizes(aggregate(fedSvd(), context, updates).global.rows)).toEqual([0, 1, 0, 24, 1, 0, 6, 0]);
  });

  it("keeps A, with B = 0, for a component that nobody has trained yet", () => {
    const update = updateOf(context, low, { ...zeroAdapter(layout, 1), rows: Float32Array.of(0, 0, 4, 0) });
    expect(sizes(aggregate(fedSvd(), context, [update]).global.rows)).toEqual([1, 0, 8, 0, 0, 3, 0, 0]);
  });

  it("has clients train B alone", () => {
    expect(fedSvd().fitOptions).toEqual({ freezeA: true });
  });
});

describe("laws of FedSVD", () => {
  it("has the product of FFA-LoRA, with orthonormal rows of A and orthogonal columns of B", () => {
    fc.assert(
      fc.property(moderateFederations, (drawn) => {
        const { context, updates } = trainingB(drawn);
        const { layout } = context;
        const next = aggregate(fedSvd(), context, updates).global;
        const expected = productsOf(aggregate(ffaLora(), context, updates).global, layout);
        productsOf(next, layout).forEach((product, module) => expect(difference(product, expected[module]!)).toBeLessThan(1e-6));
        for (const { a, b } of factorsOf(next, layout).values()) {
          const columns = a.map((_, j) => b.map((row) => row[j]!));
          const learned = columns.map((column, j) => ({ row: a[j]!, column })).filter(({ column }) => column.some((value) => value !== 0));
          for (const [i, x] of learned.entries()) {
            for (const [j, y] of learned.slice(0, i + 1).entries()) {
              expect(dot(x.row, y.row)).toBeCloseTo(i === j ? 1 : 0, 5);
              if (i !== j)
                expect(dot(x.column, y.column) / Math.max(1, dot(x.column, x.column), dot(y.column, y.column))).toBeCloseTo(0, 5);
            }
          }
        }
      }),
    );
  });
});

/** The same federation with A as it was received. */
function trainingB({ context, updates }: Federation): Federation {
  const { modules, width } = context.layout;
  const isB = (column: number) => modules.some(({ offset, in: a, out: b }) => column >= offset + a && column < offset + a + b);
  const onlyB = updates.map((update) => ({
    ...update,
    delta: { ...update.delta, rows: update.delta.rows.map((value, index) => (isB(index % width) ? value : 0)) },
  }));
  return { context, updates: onlyB };
}

function dot(x: readonly number[], y: readonly number[]): number {
  return x.reduce((sum, value, index) => sum + value * y[index]!, 0);
}
