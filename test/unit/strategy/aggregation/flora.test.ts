import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createLayout } from "../../../../src/adapter/layout.ts";
import { flexLora } from "../../../../src/strategy/aggregation/flexlora.ts";
import { fLoRA } from "../../../../src/strategy/aggregation/flora.ts";
import type { RankedClient } from "../../../../src/strategy/strategy.ts";
import { aggregate, bytesOf, difference, federationOf, mergedOf, moderateFederations, productsOf } from "../../../support/federations.ts";
import { randomAdapter, updateOf } from "../../../../src/testing/index.ts";

const layout = createLayout(
  { r: 2, tiers: [1, 2], scale: 2 },
  { modules: [{ name: "m", in: 2, out: 2 }], dense: [{ name: "head", shape: [1] }] },
);
const { context: drawn } = federationOf(
  layout,
  [
    { r: 1, size: 3 },
    { r: 2, size: 1 },
  ],
  5,
);
const context = { ...drawn, global: { r: 2, rows: Float32Array.of(1, 2, 0, 0, 3, 4, 0, 0), dense: Float32Array.of(1) } };
const [low, high] = context.clients as [RankedClient, RankedClient];
const updates = [
  updateOf(context, high, { r: 2, rows: Float32Array.of(0, 0, 4, 0, 1, 1, 0, 8), dense: Float32Array.of(8) }),
  updateOf(context, low, { r: 1, rows: Float32Array.of(1, 0, 0, 4), dense: Float32Array.of(4) }),
];

describe("FLoRA by hand", () => {
  const { global } = aggregate(fLoRA(), context, updates);

  it("stacks the clients' rows in the order of the round, with B times the client's share", () => {
    expect([...global.merged!.rows]).toEqual([2, 2, 0, 3, 1, 2, 1, 0, 4, 5, 0, 2]);
    expect(global.merged!.ends).toEqual([0, 3]);
    expect([...global.dense]).toEqual([6]);
  });

  it("starts the next round from a newly drawn A and B = 0", () => {
    expect(global.rows).toEqual(context.fresh());
    expect([...global.rows].map((value) => value === 0)).toEqual([false, false, true, true, false, false, true, true]);
  });

  it("distributes to every tier its prefix and everything merged", () => {
    const start = fLoRA().distribute(global, layout, 1);
    expect(start).toEqual({ r: 1, rows: global.rows.subarray(0, 4), dense: global.dense, merged: global.merged });
  });

  it("keeps stacking in later rounds, and marks the end of a round without reports", () => {
    const idle = aggregate(fLoRA(), { ...context, round: 2, global }, []).global;
    expect(bytesOf(idle)).toEqual(bytesOf(global));
    expect(idle.merged!.ends).toEqual([0, 3, 3]);
    const next = aggregate(fLoRA(), { ...context, round: 3, global: idle }, [updates[1]!]).global;
    expect(next.merged!.ends).toEqual([0, 3, 3, 4]);
    expect([...next.merged!.rows.subarray(12)]).toEqual([2, 2, 0, 4]);
  });

  it("presents the global adapter itself before the first merge", () => {
    expect(fLoRA().present!(context.global, layout)).toBe(context.global);
  });

  it("presents what two rounds merged as one adapter of rank R, with nothing merged", () => {
    const second = aggregate(fLoRA(), { ...context, round: 2, global }, updates).global;
    const shown = fLoRA().present!(second, layout);
    expect(shown).not.toHaveProperty("merged");
    expect(difference(productsOf(shown, layout)[0]!, productsOf(mergedOf(second), layout)[0]!)).toBeLessThan(1e-6);
  });
});

/** R = 6 ≥ Σ r_k, so that nothing is cut off. */
const wide = createLayout(
  { r: 6, tiers: [1, 2, 3, 6], scale: 2 },
  {
    modules: [
      { name: "square", in: 8, out: 8 },
      { name: "tall", in: 7, out: 12 },
    ],
    dense: [],
  },
);
const sizes = fc.tuple(fc.integer({ min: 1, max: 999 }), fc.integer({ min: 1, max: 999 }), fc.integer({ min: 1, max: 999 }));

describe("laws of FLoRA", () => {
  it("merges Σ p_k·s·B_k·A_k, like FlexLoRA at rank Σ r_k and the clients' own products", () => {
    fc.assert(
      fc.property(sizes, fc.nat(), (drawnSizes, seed) => {
        const members = drawnSizes.map((size, index) => ({ r: index + 1, size }));
        const { context, updates } = federationOf(wide, members, seed, randomAdapter);
        const total = drawnSizes.reduce((sum, size) => sum + size, 0);
        const own = updates.map(({ received, delta, r, n }) => {
          const trained = { ...received, r, rows: received.rows.map((value, index) => value + delta.rows[index]!) };
          return productsOf(trained, wide).map((product) => product.map((row) => row.map((value) => (n / total) * value)));
        });
        const merged = productsOf(mergedOf(aggregate(fLoRA(), context, updates).global), wide);
        const flex = productsOf(aggregate(flexLora(), context, updates).global, wide);
        for (const module of wide.modules.keys()) {
          const sum = own[0]![module]!.map((row, i) =>
            row.map((_, j) => own.reduce((all, products) => all + products[module]![i]![j]!, 0)),
          );
          expect(difference(merged[module]!, sum)).toBeLessThan(1e-5);
          expect(difference(flex[module]!, sum)).toBeLessThan(1e-5);
        }
      }),
    );
  });

  it("presents prefixes that approximate the merged product better at higher tiers", () => {
    fc.assert(
      fc.property(moderateFederations, ({ context, updates }) => {
        const { layout } = context;
        const next = aggregate(fLoRA(), context, updates).global;
        const whole = productsOf(mergedOf(next), layout);
        const shown = fLoRA().present!(next, layout);
        const distances = [0, ...layout.tiers].map((r) => {
          const near = productsOf(shown, layout, r);
          return whole.map((grid, module) => grid.flat().reduce((sum, value, at) => sum + (value - near[module]!.flat()[at]!) ** 2, 0));
        });
        for (const module of whole.keys()) {
          for (const index of layout.tiers.keys()) {
            expect(distances[index + 1]![module]!).toBeLessThanOrEqual(distances[index]![module]! + 1e-9);
          }
        }
      }),
    );
  });
});
