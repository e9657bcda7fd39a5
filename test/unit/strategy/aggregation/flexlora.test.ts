import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createLayout } from "../../../../src/adapter/layout.ts";
import { flexLora } from "../../../../src/strategy/aggregation/flexlora.ts";
import { hLora } from "../../../../src/strategy/aggregation/hlora.ts";
import type { RankedClient } from "../../../../src/strategy/strategy.ts";
import {
  aggregate,
  bytesOf,
  difference,
  type Federation,
  federationOf,
  moderateFederations,
  productsOf,
} from "../../../support/federations.ts";
import { randomAdapter, updateOf, zeroAdapter } from "../../../../src/testing/index.ts";

const layout = createLayout(
  { r: 2, tiers: [1, 2], scale: 2 },
  { modules: [{ name: "m", in: 2, out: 2 }], dense: [{ name: "head", shape: [1] }] },
);
const { context: drawn } = federationOf(
  layout,
  [
    { r: 1, size: 3 },
    { r: 1, size: 1 },
  ],
  5,
  randomAdapter,
);
const global = { ...zeroAdapter(layout, 2), rows: Float32Array.of(9, 9, 0, 0, 8, 7, 0, 0), dense: Float32Array.of(1) };
const context = { ...drawn, global };
const [first, second] = context.clients as [RankedClient, RankedClient];
/** The first has B·A = 4·e1·e1ᵀ, the second 8·e2·e2ᵀ. */
const updates = [
  updateOf(context, first, { r: 1, rows: Float32Array.of(-7, -9, 2, 0), dense: Float32Array.of(4) }),
  updateOf(context, second, { r: 1, rows: Float32Array.of(-9, -7, 0, 4), dense: Float32Array.of(8) }),
];
const sizes = (values: Float32Array) => [...values].map((value) => Number(Math.abs(value).toFixed(6)));
const [two, three] = [Number(Math.sqrt(2).toFixed(6)), Number(Math.sqrt(3).toFixed(6))];

describe("by hand, the mean product ¾·4·e1·e1ᵀ + ¼·8·e2·e2ᵀ has the singular values 3 and 2:", () => {
  it("FlexLoRA splits them evenly between A and B, and the second direction is only in component 2", () => {
    const next = aggregate(flexLora(), context, updates).global;
    expect(sizes(next.rows)).toEqual([three, 0, three, 0, 0, two, 0, two]);
    expect([...next.dense]).toEqual([6]);
    expect(
      productsOf(next, layout)[0]!
        .flat()
        .map((value) => Number(value.toFixed(5))),
    ).toEqual([6, 0, 0, 4]);
    expect(flexLora().distribute(next, layout, 1).rows).toEqual(next.rows.subarray(0, 4));
  });

  it("HLoRA puts them all into A", () => {
    expect(sizes(aggregate(hLora(), context, updates).global.rows)).toEqual([3, 0, 1, 0, 0, 2, 0, 1]);
  });

  it.each([flexLora(), hLora()])("$policy.name keeps the previous A, with B = 0, for components that the product lacks", (aggregation) => {
    const next = aggregate(aggregation, context, [updates[0]!]).global;
    expect([...next.rows.subarray(4)]).toEqual([8, 7, 0, 0]);
    const untrained = context.clients.map((client) => updateOf(context, client, zeroAdapter(layout, 1)));
    expect(bytesOf(aggregate(aggregation, context, untrained).global)).toEqual(bytesOf(global));
  });
});

describe.each([flexLora(), hLora()])("laws of $policy.name", (aggregation) => {
  const run = ({ context, updates }: Federation) => aggregate(aggregation, context, updates).global;
  const products = (federation: Federation) => productsOf(run(federation), federation.context.layout);

  it("returns the product of a single client unchanged", () => {
    fc.assert(
      fc.property(moderateFederations, ({ context, updates: [update] }) => {
        const { received, delta, r } = update!;
        const trained = { ...received, r, rows: received.rows.map((value, index) => value + delta.rows[index]!) };
        const found = products({ context, updates: [update!] });
        productsOf(trained, context.layout).forEach((expected, module) => expect(difference(found[module]!, expected)).toBeLessThan(1e-6));
      }),
    );
  });

  it("does not change when a client is split into two halves", () => {
    fc.assert(
      fc.property(moderateFederations, (federation) => {
        const { context, updates } = federation;
        const halve = ({ id, size, ...rest }: RankedClient) => ["/1", "/2"].map((half) => ({ ...rest, id: id + half, size: size / 2 }));
        const split = { ...context, clients: context.clients.flatMap(halve) };
        const halves = split.clients.map((client) => updateOf(split, client, updates[client.index]!.delta));
        const [whole, joined] = [products(federation), products({ context: split, updates: halves })];
        whole.forEach((expected, module) => expect(difference(joined[module]!, expected)).toBeLessThan(1e-5));
      }),
    );
  });

  it("never produces a component with A = B = 0, which could not learn", () => {
    fc.assert(
      fc.property(moderateFederations, (federation) => {
        const { layout } = federation.context;
        const { rows } = run({ ...federation, updates: federation.updates.slice(0, 1) });
        for (const { offset, in: a } of layout.modules) {
          for (let row = 0; row < layout.r; row++) {
            const start = row * layout.width + offset;
            expect(rows.subarray(start, start + a).some((value) => value !== 0)).toBe(true);
          }
        }
      }),
    );
  });
});
