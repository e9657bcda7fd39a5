import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fedPLoRA } from "../../../../src/strategy/aggregation/fed-plora.ts";
import { segmentWise } from "../../../../src/strategy/aggregation/segment-wise.ts";
import { aggregate, componentBytes, federations } from "../../../support/federations.ts";

describe("Fed-PLoRA", () => {
  it("has each component averaged over the clients that trained it, in another order", () => {
    fc.assert(
      fc.property(federations, ({ context, updates }) => {
        const { layout } = context;
        const components = (global: typeof context.global) =>
          Array.from({ length: layout.r }, (_, row) => componentBytes(global, layout, row, row + 1)).toSorted();
        const [found, expected] = [fedPLoRA(), segmentWise()].map((method) => aggregate(method, context, updates));
        expect(components(found!.global)).toEqual(components(expected!.global));
        expect(found!.global.dense).toEqual(expected!.global.dense);
      }),
    );
  });
});
