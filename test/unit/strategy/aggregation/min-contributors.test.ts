import { describe, expect, it } from "vitest";
import { ffaLora } from "../../../../src/strategy/aggregation/ffa-lora.ts";
import { segmentWise } from "../../../../src/strategy/aggregation/segment-wise.ts";
import { withServerOptimizer } from "../../../../src/strategy/aggregation/server-optimizer.ts";
import { zeroPadDeltas } from "../../../../src/strategy/aggregation/zero-pad.ts";
import { aggregate } from "../../../support/federations.ts";
import { context, large, small } from "../../../support/two-components.ts";

describe.each([
  { made: segmentWise, name: "segment-wise" },
  { made: zeroPadDeltas, name: "zero-pad-deltas" },
  { made: ffaLora, name: "ffa-lora" },
])("minContributors: 2 of $name", ({ made, name }) => {
  const two = made({ minContributors: 2 });

  it("keeps a segment that one client trained to the byte, and averages the others as before", () => {
    const [plain, { global, coverage, held }] = [aggregate(made(), context, [small, large]), aggregate(two, context, [small, large])];
    expect(global.rows.slice(0, 4)).toEqual(plain.global.rows.slice(0, 4));
    expect(global.rows.slice(4)).toEqual(context.global.rows.slice(4));
    expect(global.dense).toEqual(plain.global.dense);
    expect(coverage).toEqual(plain.coverage);
    expect(held).toEqual([2]);
  });

  it("keeps everything, including the head, when only one client reports", () => {
    const { global, coverage, held } = aggregate(two, context, [large]);
    expect(global).toEqual(context.global);
    expect(coverage.map(({ clients }) => clients)).toEqual([1, 1]);
    expect(held).toEqual([1, 2, "dense"]);
  });

  it("is recorded, while the default of 1 is not", () => {
    expect(two.policy).toMatchObject({ name, minContributors: 2 });
    expect(made({ minContributors: 1 }).policy).toEqual(made().policy);
  });

  it.each([0, 1.5, Number.NaN])("refuses %s instead of 2", (minContributors) => {
    const issues = [{ path: "minContributors", message: expect.stringMatching(new RegExp(`\\b1\\b.*got ${minContributors}$`)) }];
    expect(() => made({ minContributors })).toThrow(expect.objectContaining({ issues }));
  });
});

it("a server optimiser does not step what minContributors keeps, nor does its momentum decay", () => {
  const momentum = withServerOptimizer(segmentWise({ minContributors: 2 }), { name: "momentum" });
  const state = { velocity: Float32Array.of(1, 1, 1, 1, 1, 1, 1, 1, 1) };
  const { global, state: next } = aggregate(momentum, { ...context, state }, [large]);
  expect(global).toEqual(context.global);
  expect(next).toEqual(state);
});
