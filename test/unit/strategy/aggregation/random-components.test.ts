import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fedPLoRA } from "../../../../src/strategy/aggregation/fed-plora.ts";
import { randomComponents } from "../../../../src/strategy/aggregation/random-components.ts";
import { segmentWise } from "../../../../src/strategy/aggregation/segment-wise.ts";
import { zeroPadDeltas } from "../../../../src/strategy/aggregation/zero-pad.ts";
import { clientsOf, layoutOf, roundContext, updatesOf } from "../../../../src/testing/index.ts";
import { aggregate, componentBytes, federations } from "../../../support/federations.ts";

describe("random components", () => {
  it.each([
    ["zero-padded deltas", zeroPadDeltas(), randomComponents()],
    ["segment-wise means (Fed-PLoRA)", segmentWise(), fedPLoRA()],
  ])("are those of %s, in another order", (_, means, shuffling) => {
    fc.assert(
      fc.property(federations, ({ context, updates }) => {
        const { layout } = context;
        const components = (global: typeof context.global) =>
          Array.from({ length: layout.r }, (_, row) => componentBytes(global, layout, row, row + 1)).toSorted();
        const [found, expected] = [shuffling, means].map((method) => aggregate(method, context, updates));
        expect(components(found!.global)).toEqual(components(expected!.global));
        expect(found!.global.dense).toEqual(expected!.global.dense);
      }),
    );
  });

  it("come first equally often, in an order that depends on the run's seed and the round", () => {
    const layout = layoutOf({ tiers: [1, 2, 4] });
    const orderOf = (seed: number) => {
      const global = {
        r: 4,
        rows: Float32Array.from({ length: 4 * layout.width }, (_, index) => Math.floor(index / layout.width)),
        dense: new Float32Array(0),
      };
      const context = roundContext(layout, clientsOf([{ r: 4 }]), { seed, global });
      const idle = updatesOf(context).map((update) => ({ ...update, delta: { ...update.delta, rows: update.delta.rows.fill(0) } }));
      return [0, 1, 2, 3].map((row) => aggregate(randomComponents(), context, idle).global.rows[row * layout.width]!);
    };
    const orders = Array.from({ length: 200 }, (_, seed) => orderOf(seed));
    expect(orderOf(3)).toEqual(orders[3]);
    for (const component of [0, 1, 2, 3]) {
      const first = orders.filter(([found]) => found === component).length;
      expect(first).toBeGreaterThan(25);
      expect(first).toBeLessThan(75);
    }
  });
});
