import * as fc from "fast-check";
import { expect, it } from "vitest";
import { createLayout } from "../../../../src/adapter/layout.ts";
import { flexLora } from "../../../../src/strategy/aggregation/flexlora.ts";
import { raFLoRA } from "../../../../src/strategy/aggregation/raflora.ts";
import type { RankedClient } from "../../../../src/strategy/strategy.ts";
import { aggregate, difference, federationOf, moderateFederations, productsOf } from "../../../support/federations.ts";
import { randomAdapter, updateOf, zeroAdapter } from "../../../../src/testing/index.ts";

const layout = createLayout({ r: 2, tiers: [1, 2], scale: 1 }, { modules: [{ name: "m", in: 2, out: 2 }], dense: [] });
const { context: drawn } = federationOf(
  layout,
  [
    { r: 1, size: 3 },
    { r: 2, size: 1 },
  ],
  5,
);
/** B·A = e1·e1ᵀ + 5·e2·e2ᵀ */
const global = { ...zeroAdapter(layout, 2), rows: Float32Array.of(1, 0, 1, 0, 0, 5, 0, 1) };
const context = { ...drawn, global };
const [low, high] = context.clients as [RankedClient, RankedClient];
const rounded = (grid: readonly number[][]) => grid.flat().map((value) => Number(value.toFixed(5)));

it("raFLoRA averages each segment's products over the clients that train it: 1 + ¾·4 in the first, 5 + 2 in the second", () => {
  const updates = [
    updateOf(context, low, { r: 1, rows: Float32Array.of(4, 0, 0, 0), dense: new Float32Array(0) }),
    updateOf(context, high, { r: 2, rows: Float32Array.of(0, 0, 0, 0, 0, 2, 0, 0), dense: new Float32Array(0) }),
  ];
  const next = aggregate(raFLoRA(), context, updates).global;
  expect(rounded(productsOf(next, layout)[0]!)).toEqual([4, 0, 0, 7]);
  expect(rounded(productsOf(next, layout, 1)[0]!)).toEqual([0, 0, 0, 7]);
});

it("raFLoRA keeps the product of a segment that nobody trained", () => {
  const update = updateOf(context, low, { r: 1, rows: Float32Array.of(1, 0, 0, 0), dense: new Float32Array(0) });
  expect(rounded(productsOf(aggregate(raFLoRA(), context, [update]).global, layout)[0]!)).toEqual([2, 0, 0, 5]);
});

it("raFLoRA keeps the product when clients take no step, whichever clients report", () => {
  fc.assert(
    fc.property(moderateFederations, ({ context }) => {
      const idle = context.clients.map((client) => updateOf(context, client, zeroAdapter(context.layout, client.r)));
      const found = productsOf(aggregate(raFLoRA(), context, idle).global, context.layout);
      productsOf(context.global, context.layout).forEach((expected, module) =>
        expect(difference(found[module]!, expected)).toBeLessThan(1e-6),
      );
    }),
  );
});

it("raFLoRA equals FlexLoRA when all clients have the largest rank", () => {
  fc.assert(
    fc.property(moderateFederations, fc.nat(), ({ context: { layout, clients } }, seed) => {
      const members = clients.map(({ size }) => ({ r: layout.r, size }));
      const { context, updates } = federationOf(layout, members, seed, randomAdapter);
      const [ours, flex] = [raFLoRA(), flexLora()].map((method) => productsOf(aggregate(method, context, updates).global, layout));
      flex!.forEach((expected, module) => expect(difference(ours![module]!, expected)).toBeLessThan(1e-5));
    }),
  );
});
