import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { LARGEST_DELTA } from "../../../../src/adapter/update.ts";
import { RefusedError } from "../../../../src/errors.ts";
import { segmentWise } from "../../../../src/strategy/aggregation/segment-wise.ts";
import { withServerOptimizer } from "../../../../src/strategy/aggregation/server-optimizer.ts";
import { withUpdateBound } from "../../../../src/strategy/aggregation/update-bound.ts";
import type { Aggregate, Aggregation, RoundContext, Update } from "../../../../src/strategy/strategy.ts";
import { BLOCK } from "../../../../src/tensor/fold-kernel.ts";
import { createRng, deriveSeed } from "../../../../src/base/rng.ts";
import { BLOCKS_A_TURN } from "../../../../src/base/turns.ts";
import { aggregate, aggregateAny, bytesOf, federationOf } from "../../../support/federations.ts";
import { randomAdapter } from "../../../../src/testing/index.ts";
import { context, large, layout, small } from "../../../support/two-components.ts";

const bounded = withUpdateBound(segmentWise(), { factor: 3 });

/** An update of this norm, all of it in the first value. */
function ofNorm(update: Update, norm: number): Update {
  const { r, rows, dense } = update.delta;
  return { ...update, delta: { r, rows: rows.map((_, index) => (index === 0 ? norm : 0)), dense: dense.map(() => 0) } };
}

function after(aggregation: Aggregation, { global, state = {} }: Aggregate, updates: readonly Update[]): Aggregate {
  return aggregate(aggregation, { ...context, global, state }, updates);
}

describe("an update bound", () => {
  const start: Aggregate = { global: context.global, coverage: [] };
  const first = after(bounded, start, [ofNorm(small, 4), ofNorm(large, 0.5)]);

  it("does not exist in a tier's first round, which records the norms of each tier", () => {
    expect(first.global).toEqual(aggregate(segmentWise(), context, [ofNorm(small, 4), ofNorm(large, 0.5)]).global);
    expect(first.state).toEqual({ "update-norms/r1": Float32Array.of(4), "update-norms/r2": Float32Array.of(0.5) });
  });

  it("refuses an update larger than a multiple of its tier's median, whatever other tiers send", () => {
    const accumulator = bounded.begin({ ...context, state: first.state! });
    void accumulator.add(ofNorm(small, 12));
    expect(() => accumulator.add(ofNorm(large, 1.51))).toThrow(RefusedError);
    const refusal = { expected: expect.stringMatching(/\b1\.5, 3 times\b.*\brank 2\b/), received: expect.stringMatching(/^1\.509/) };
    expect(() => accumulator.add(ofNorm(large, 1.51))).toThrow(expect.objectContaining(refusal));
    expect(() => accumulator.add(ofNorm(large, 1.51))).toThrow(/\bclient large\b.*\bnorm\b/);
    void accumulator.add(ofNorm(large, 1.5));
  });

  it("leaves the sum and the recorded norms as if a refused update had never arrived", () => {
    const accumulator = bounded.begin({ ...context, state: first.state! });
    expect(() => accumulator.add(ofNorm(large, 60))).toThrow(RefusedError);
    void accumulator.add(small);
    expect(accumulator.finish()).toEqual(aggregate(bounded, { ...context, state: first.state! }, [small]));
  });

  it("takes the median over all earlier rounds: the mean of the middle two for an even number", () => {
    const sizes = [2, 50, 4, 6];
    const last = sizes.reduce(
      (before, norm) => after(withUpdateBound(segmentWise(), { factor: 1e3 }), before, [ofNorm(small, norm)]),
      start,
    );
    const accumulator = withUpdateBound(segmentWise(), { factor: 2 }).begin({ ...context, state: last.state! });
    const expected = expect.stringMatching(/\b10, 2 times\b/);
    expect(() => accumulator.add(ofNorm(small, 10.1))).toThrow(expect.objectContaining({ expected }));
    void accumulator.add(ofNorm(small, 10));
  });

  it("keeps the latest 1,024 norms of a tier", () => {
    const state = { "update-norms/r1": new Float32Array(1024).fill(1) };
    const { state: next } = aggregate(bounded, { ...context, state }, [ofNorm(small, 2)]);
    expect(next?.["update-norms/r1"]).toEqual(new Float32Array(1024).fill(1).with(1023, 2));
  });

  it("does not exist while all earlier updates of a tier were zero", () => {
    const state = { "update-norms/r1": Float32Array.of(0, 0) };
    expect(aggregate(bounded, { ...context, state }, [small]).coverage[0]?.clients).toBe(1);
  });

  it("leaves values that are not finite to the aggregation, which says where they are", () => {
    const spoilt = { ...small, delta: { ...small.delta, rows: Float32Array.of(0, Number.NaN, 0, 0) } };
    expect(() => bounded.begin({ ...context, state: first.state! }).add(spoilt)).toThrow(
      new RegExp(`rows\\[1\\].*\\b${LARGEST_DELTA}\\b.*NaN`),
    );
  });

  it("records the same bytes whatever the order of arrival", () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(1, 2), { minLength: 1, maxLength: 8 }), fc.nat(), (ranks, seed) => {
        const { context: round, updates } = federationOf(
          layout,
          ranks.map((r) => ({ r, size: 3 })),
          seed,
        );
        const shuffled = createRng(deriveSeed(seed)).shuffle(updates);
        expect(aggregate(bounded, round, shuffled).state).toEqual(aggregate(bounded, round, updates).state);
      }),
    );
  });

  it("measures a large update in turns, before the aggregation sees it", async () => {
    const seen: string[] = [];
    const inner: Aggregation = {
      distribute: (global) => global,
      begin: () => ({ add: ({ clientId }) => void seen.push(clientId), finish: () => start }),
    };
    const state = { "update-norms/r1": Float32Array.of(1) };
    const accumulator = withUpdateBound(inner).begin({ ...context, state });
    const rows = new Float32Array((BLOCKS_A_TURN + 1) * BLOCK);
    const adding = accumulator.add({ ...small, delta: { r: 1, rows, dense: Float32Array.of(3) } });
    expect(seen).toEqual([]);
    await adding;
    await expect(accumulator.add({ ...small, clientId: "other", delta: { r: 1, rows, dense: Float32Array.of(4) } })).rejects.toThrow(
      /\bclient other\b.*\bnorm\b.*\b3\b/,
    );
    expect(seen).toEqual(["small"]);
  });

  it("is recorded with the policy that it wraps", () => {
    const momentum = withServerOptimizer(segmentWise(), { name: "momentum" });
    expect(withUpdateBound(momentum).policy).toEqual({ ...momentum.policy, updateBound: { factor: 3 } });
  });

  it.each([1, 0, Infinity, Number.NaN])("refuses the factor %s", (factor) => {
    const issues = [{ path: "updateBound.factor", message: expect.stringMatching(new RegExp(`\\b1, got ${factor}$`)) }];
    expect(() => withUpdateBound(segmentWise(), { factor })).toThrow(expect.objectContaining({ issues }));
  });
});

describe("an update bound and a server optimiser both keep their state, with the bound", () => {
  const options = { name: "momentum", momentum: 0.5 } as const;
  const play = (aggregation: Aggregation) => {
    const second = after(aggregation, after(aggregation, { global: context.global, coverage: [] }, [small, large]), [small, large]);
    return { bytes: bytesOf(second.global), velocity: second.state?.["velocity"], norms: second.state?.["update-norms/r1"] };
  };

  it.each([
    ["inside", withServerOptimizer(withUpdateBound(segmentWise()), options)],
    ["outside", withUpdateBound(withServerOptimizer(segmentWise(), options))],
  ])("%s", (_, both) => {
    const alone = play(withServerOptimizer(segmentWise(), options));
    expect(play(both)).toEqual({ ...alone, norms: play(bounded).norms });
    expect(alone.velocity).toBeDefined();
  });
});

it("an update bound works with a robust rule that reads updates back", async () => {
  const both = withUpdateBound(segmentWise({ robust: { name: "median" } }));
  expect(both.readsSpool).toBe(true);
  const { context: round, updates } = federationOf(
    layout,
    [2, 2, 2].map((r) => ({ r, size: 3 })),
    1,
    randomAdapter,
  );
  const first = await aggregateAny(both, round, updates);
  expect(first.state?.["update-norms/r2"]?.length).toBe(3);
  const second: RoundContext = { ...round, global: first.global, state: first.state! };
  const accumulator = both.begin(second);
  expect(() => accumulator.add(ofNorm(updates[0]!, 60))).toThrow(expect.objectContaining({ kind: "refused", received: "60" }));
});
