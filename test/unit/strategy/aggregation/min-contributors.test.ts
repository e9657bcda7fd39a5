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
])("two contributors of $name", ({ made, name }) => {
  const two = made({ minContributors: 2 });

  it("keep a segment that one client trained, to the byte, and average the others as before", () => {
    const [plain, { global, coverage, held }] = [aggregate(made(), context, [small, large]), aggregate(two, context, [small, large])];
    expect(global.rows.slice(0, 4)).toEqual(plain.global.rows.slice(0, 4));
    expect(global.rows.slice(4)).toEqual(context.global.rows.slice(4));
    expect(global.dense).toEqual(plain.global.dense);
    expect(coverage).toEqual(plain.coverage);
    expect(held).toEqual([2]);
  });

  it("keep everything, the head too, when one client reports", () => {
    const { global, coverage, held } = aggregate(two, context, [large]);
    expect(global).toEqual(context.global);
    expect(coverage.map(({ clients }) => clients)).toEqual([1, 1]);
    expect(held).toEqual([1, 2, "dense"]);
  });

  it("are recorded; one, the default, is not", () => {
    expect(two.policy).toMatchObject({ name, minContributors: 2 });
    expect(made({ minContributors: 1 }).policy).toEqual(made().policy);
  });

  it.each([0, 1.5, Number.NaN])("cannot be %s", (minContributors) => {
    expect(() => made({ minContributors })).toThrow(/^the config has 1 problem:\n {2}minContributors {2}must be a whole number from 1/);
  });
});

it("what was kept is not stepped by a server optimiser, nor does its momentum decay", () => {
  const momentum = withServerOptimizer(segmentWise({ minContributors: 2 }), { name: "momentum" });
  const state = { velocity: Float32Array.of(1, 1, 1, 1, 1, 1, 1, 1, 1) };
  const { global, state: next } = aggregate(momentum, { ...context, state }, [large]);
  expect(global).toEqual(context.global);
  expect(next).toEqual(state);
});
