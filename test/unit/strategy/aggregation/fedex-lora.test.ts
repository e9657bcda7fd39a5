import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { RefusedError } from "../../../../src/errors.ts";
import { fedExLora } from "../../../../src/strategy/aggregation/fedex-lora.ts";
import { fedIt } from "../../../../src/strategy/aggregation/fedit.ts";
import { fLoRA } from "../../../../src/strategy/aggregation/flora.ts";
import type { RankedClient } from "../../../../src/strategy/strategy.ts";
import { clientsOf, layoutOf, randomAdapter, roundContext, updateOf, zeroAdapter } from "../../../../src/testing/index.ts";
import {
  aggregate,
  bytesOf,
  difference,
  type Federation,
  federationOf,
  mergedOf,
  moderateFederations,
  productsOf,
} from "../../../support/federations.ts";

/** The same federation with clients of the largest rank. */
const ofOneRank = fc.tuple(moderateFederations, fc.nat()).map(
  ([
    {
      context: { layout, clients },
    },
    seed,
  ]): Federation => {
    const members = clients.map(({ size }) => ({ r: layout.r, size }));
    return federationOf(layout, members, seed, randomAdapter);
  },
);

describe("FedEx-LoRA by hand, with the products e1·e1ᵀ and 3·3·e1·e1ᵀ of equal clients", () => {
  const layout = layoutOf({ tiers: [1], scale: 1, modules: [{ name: "m", in: 2, out: 2 }] });
  const context = roundContext(layout, clientsOf([{}, {}]), { global: zeroAdapter(layout, 1) });
  const [first, second] = context.clients as [RankedClient, RankedClient];
  const updates = [
    updateOf(context, first, { ...zeroAdapter(layout, 1), rows: Float32Array.of(1, 0, 1, 0) }),
    updateOf(context, second, { ...zeroAdapter(layout, 1), rows: Float32Array.of(3, 0, 3, 0) }),
  ];
  const next = aggregate(fedExLora(), context, updates).global;

  it("averages the factors, 2·2, and merges the rest of the mean product: 5 − 4", () => {
    expect([...next.rows]).toEqual([2, 0, 2, 0]);
    expect(productsOf(mergedOf(next), layout)).toEqual([
      [
        [1, 0],
        [0, 0],
      ],
    ]);
    expect([...next.merged!.rows]).toEqual([-1, 0, -0.5, 0, 1, 0, 0.5, 0]);
    expect(next.merged!.ends).toEqual([0, 2]);
  });

  it("presents both as one adapter, and merges nothing in a round without reports", () => {
    const shown = fedExLora().present!(next, layout);
    expect(shown).not.toHaveProperty("merged");
    expect(productsOf(shown, layout)[0]![0]![0]).toBeCloseTo(5, 6);
    expect(aggregate(fedExLora(), { ...context, round: 2, global: next }, []).global).toEqual({
      ...next,
      merged: { ...next.merged, ends: [0, 2, 2] },
    });
  });

  it("refuses a round of clients with different ranks", () => {
    const mixed = layoutOf({ tiers: [1, 2] });
    expect(() => fedExLora().begin(roundContext(mixed, clientsOf([{ r: 1 }, { r: 2 }])))).toThrow(RefusedError);
  });
});

describe("laws of FedEx-LoRA", () => {
  it("makes the sum of what is merged and of the adapter the mean product, as FLoRA's stack is", () => {
    fc.assert(
      fc.property(ofOneRank, ({ context, updates }) => {
        const { layout } = context;
        const next = aggregate(fedExLora(), context, updates).global;
        const [merged, own] = [productsOf(mergedOf(next), layout), productsOf(next, layout)];
        const expected = productsOf(mergedOf(aggregate(fLoRA(), context, updates).global), layout);
        for (const module of layout.modules.keys()) {
          const sum = merged[module]!.map((row, i) => row.map((value, j) => value + own[module]![i]![j]!));
          expect(difference(sum, expected[module]!)).toBeLessThan(1e-6);
        }
      }),
    );
  });

  it("has FedIT's adapter, and merges nothing but zeros for one client", () => {
    fc.assert(
      fc.property(ofOneRank, ({ context, updates }) => {
        const next = aggregate(fedExLora(), context, updates).global;
        const expected = aggregate(fedIt(), context, updates).global;
        next.rows.forEach((value, index) => expect(value).toBeCloseTo(expected.rows[index]!, 6));
        expect(bytesOf({ ...next, rows: expected.rows })).toMatchObject({ dense: bytesOf(expected).dense });
        const alone = aggregate(fedExLora(), context, updates.slice(0, 1)).global;
        expect(alone.merged!.rows.every((value) => Math.abs(value) === 0)).toBe(true);
      }),
    );
  });
});
