import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Adapter } from "../../../../src/adapter/adapter.ts";
import { fLoRA } from "../../../../src/strategy/aggregation/flora.ts";
import type { Aggregate, RankedClient, RoundContext } from "../../../../src/strategy/strategy.ts";
import { aggregate, bytesOf, difference, mergedOf, moderateFederations, productsOf } from "../../../support/federations.ts";
import { clientsOf, layoutOf, randomAdapter, roundContext, updateOf, updatesOf, zeroAdapter } from "../../../../src/testing/index.ts";

const layout = layoutOf({ tiers: [1, 2], scale: 1, modules: [{ name: "m", in: 2, out: 2 }] });
const clients = clientsOf([
  { size: 3, r: 1 },
  { size: 1, r: 2 },
]);
const [low, high] = clients as [RankedClient, RankedClient];
/** A row is [a, a, b, b]; B = 0. */
const context = roundContext(layout, clients, { global: { ...zeroAdapter(layout, 2), rows: Float32Array.of(1, 0, 0, 0, 0, 1, 0, 0) } });
const rounded = (values: Iterable<number>) => Array.from(values, (value) => Number(value.toFixed(5)));
const carried = ({ global, state = {} }: Aggregate) => ({ global, state });
const bounded = (incrementRank: number) => fLoRA({ incrementRank });

describe("FLoRA with increments of rank 1 by hand, with the mean product ¾·4·e1·e1ᵀ + ¼·8·e2·e2ᵀ", () => {
  const updates = [
    updateOf(context, low, { ...zeroAdapter(layout, 1), rows: Float32Array.of(0, 0, 4, 0) }),
    updateOf(context, high, { ...zeroAdapter(layout, 2), rows: Float32Array.of(4, 0, 0, 0, 0, 1, 0, 4) }),
  ];
  const first = aggregate(bounded(1), context, updates);

  it("merges the larger one, 3, and keeps the other", () => {
    expect(rounded(productsOf(mergedOf(first.global), layout)[0]!.flat())).toEqual([3, 0, 0, 0]);
    expect(first.global.merged!.ends).toEqual([0, 1]);
    expect(rounded(errorOf(first, context).flat())).toEqual([0, 0, 0, 2]);
  });

  it("carries over the mean of A, each component over the clients that have it, and B = 0", () => {
    expect(rounded(first.global.rows)).toEqual([2, 0, 0, 0, 0, 2, 0, 0]);
  });

  it("merges what it kept once nothing larger comes, and nothing in a round without reports", () => {
    const silent = aggregate(bounded(1), { ...context, round: 2, ...carried(first) }, []);
    expect([bytesOf(silent.global), silent.state]).toEqual([bytesOf(first.global), first.state]);
    expect(silent.global.merged!.ends).toEqual([0, 1, 1]);
    const later = { ...context, round: 3, ...carried(silent) };
    const second = aggregate(bounded(1), later, [updateOf(later, low, zeroAdapter(layout, 1))]);
    expect(rounded(productsOf(mergedOf(second.global), layout)[0]!.flat())).toEqual([3, 0, 0, 2]);
    expect(rounded(errorOf(second, context).flat())).toEqual([0, 0, 0, 0]);
  });

  it("refuses a rank below 1", () => {
    expect(() => bounded(0)).toThrow(/\bincrementRank\b/);
  });
});

describe("laws of FLoRA with increments of a rank", () => {
  it("merge and keep, together, what FLoRA merges", () => {
    fc.assert(
      fc.property(moderateFederations, fc.integer({ min: 1, max: 4 }), ({ context, updates }, q) => {
        // A module of the test has at most 9 singular values, and 2R + q are kept.
        fc.pre(2 * context.layout.r + q >= 9);
        const whole = productsOf(mergedOf(aggregate(fLoRA(), context, updates).global), context.layout);
        const next = aggregate(bounded(q), context, updates);
        expect(next.global.merged!.ends).toEqual([0, q]);
        const merged = productsOf(mergedOf(next.global), context.layout);
        for (const [module, expected] of whole.entries()) {
          const error = errorOf(next, context, module);
          const sum = merged[module]!.map((row, i) => row.map((value, j) => value + error[i]![j]!));
          expect(difference(sum, expected)).toBeLessThan(1e-6);
        }
      }),
    );
  });

  it("lose nothing over rounds: all that is merged and kept is the sum of what clients trained", () => {
    fc.assert(
      fc.property(moderateFederations, fc.nat(), ({ context, updates }, seed) => {
        fc.pre(context.layout.r >= 4);
        const first = aggregate(bounded(1), context, updates);
        const later = { ...context, round: 2, ...carried(first) };
        const second = aggregate(bounded(1), later, updatesOf(later, seed));
        const trained = [
          mergedOf(aggregate(fLoRA(), context, updates).global),
          mergedOf(aggregate(fLoRA(), { ...later, global: without(first.global) }, updatesOf(later, seed)).global),
        ].map((adapter) => productsOf(adapter, context.layout));
        const merged = productsOf(mergedOf(second.global), context.layout);
        for (const module of context.layout.modules.keys()) {
          const error = errorOf(second, context, module);
          const sum = merged[module]!.map((row, i) => row.map((value, j) => value + error[i]![j]!));
          const expected = trained[0]![module]!.map((row, i) => row.map((value, j) => value + trained[1]![module]![i]![j]!));
          expect(difference(sum, expected)).toBeLessThan(1e-6);
        }
      }),
    );
  });

  it("carry over a single client's A as it trained it", () => {
    fc.assert(
      fc.property(moderateFederations, fc.nat(), ({ context: { layout, global } }, seed) => {
        const alone = roundContext(layout, clientsOf([{ r: layout.r }]), { global });
        const delta = randomAdapter(layout, layout.r, seed);
        const { rows } = aggregate(bounded(2), alone, [updateOf(alone, alone.clients[0]!, delta)]).global;
        for (const { offset, in: a, out: b } of layout.modules) {
          for (let start = offset; start < rows.length; start += layout.width) {
            for (let index = start; index < start + a; index++)
              expect(rows[index]).toBeCloseTo(global.rows[index]! + delta.rows[index]!, 6);
            expect(rows.subarray(start + a, start + a + b).every((value) => value === 0)).toBe(true);
          }
        }
      }),
    );
  });
});

/** With nothing merged. */
function without({ r, rows, dense }: Adapter): Adapter {
  return { r, rows, dense };
}

/** s·E of a module. */
function errorOf({ state }: Aggregate, { layout }: RoundContext, module = 0): readonly (readonly number[])[] {
  const rows = state!["unmerged"]!;
  return productsOf({ r: rows.length / layout.width, rows, dense: new Float32Array(0) }, layout)[module]!;
}
