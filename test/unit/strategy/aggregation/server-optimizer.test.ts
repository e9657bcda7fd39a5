import { describe, expect, it } from "vitest";
import { after } from "../../../../src/base/turns.ts";
import { segmentWise } from "../../../../src/strategy/aggregation/segment-wise.ts";
import { withServerOptimizer } from "../../../../src/strategy/aggregation/server-optimizer.ts";
import type { Aggregate, Aggregation, Update } from "../../../../src/strategy/strategy.ts";
import { issue, issuesOf } from "../../../support/config-issues.ts";
import { aggregate, bytesOf } from "../../../support/federations.ts";
import { context, large, small } from "../../../support/two-components.ts";

/** Plays rounds with these updates, each from the outcome of the previous one. */
function play(aggregation: Aggregation, rounds: readonly (readonly Update[])[]): readonly Aggregate[] {
  const results: Aggregate[] = [];
  for (const updates of rounds) {
    const { global, state = {} } = results.at(-1) ?? { global: context.global };
    results.push(aggregate(aggregation, { ...context, global, state }, updates));
  }
  return results;
}

describe("a server optimiser with momentum", () => {
  const momentum = withServerOptimizer(segmentWise(), { name: "momentum", momentum: 0.5 });

  it("adds half of the previous step to the next at momentum 0.5", () => {
    const [first, second] = play(momentum, [
      [small, large],
      [small, large],
    ]);
    // Segment-wise moves the first value by 3 each time, and the head by 1.
    expect(first?.global.rows[0]).toBe(1 + 3);
    expect(second?.global.rows[0]).toBe(1 + 3 + (3 + 1.5));
    expect(second?.global.dense[0]).toBe(100 + 1 + 1.5);
  });

  it("neither steps a segment that nobody trains nor lets its momentum decay", () => {
    const [first, second, third] = play(momentum, [[large], [small], [large]]);
    expect(second?.global.rows.slice(4)).toEqual(first?.global.rows.slice(4));
    expect(second?.state?.["velocity"]?.slice(4, 8)).toEqual(first?.state?.["velocity"]?.slice(4, 8));
    // As if round 2 had not happened: 3, then 3 + 1.5.
    expect(third?.global.rows[4]).toBe(2 + 3 + 4.5);
  });

  it("equals the aggregation itself at momentum 0 and learning rate 1", () => {
    const plain = aggregate(segmentWise(), context, [small, large]);
    const wrapped = aggregate(withServerOptimizer(segmentWise(), { name: "momentum", momentum: 0 }), context, [small, large]);
    expect(bytesOf(wrapped.global)).toEqual(bytesOf(plain.global));
  });
});

describe("a server optimiser with Adam", () => {
  const adam = withServerOptimizer(segmentWise(), { name: "adam", lr: 0.1, beta1: 0, beta2: 0.75, tau: 1 });

  it("divides a step by the root of its mean square", () => {
    const [first] = play(adam, [[small, large]]);
    // g = 3: v = 0.25·9, √v = 1.5; g = −0: nothing.
    expect(first?.global.rows[0]).toBeCloseTo(1 + (0.1 * 3) / (1.5 + 1), 6);
  });

  it("leaves a segment that nobody trained, and its state, to the byte", () => {
    const [first, second] = play(adam, [[small, large], [small]]);
    expect(second?.global.rows.slice(4)).toEqual(first?.global.rows.slice(4));
    expect(second?.state?.["variance"]?.slice(4, 8)).toEqual(first?.state?.["variance"]?.slice(4, 8));
  });
});

describe("a server optimiser with Adagrad", () => {
  const adagrad = withServerOptimizer(segmentWise(), { name: "adagrad", lr: 0.1, tau: 1 });

  it("divides a step by the root of the sum of all squares so far", () => {
    const [first, second] = play(adagrad, [
      [small, large],
      [small, large],
    ]);
    // g = 3 each time: v = 9, then 18.
    const once = 1 + (0.1 * 3) / (3 + 1);
    expect(first?.global.rows[0]).toBeCloseTo(once, 6);
    expect(second?.global.rows[0]).toBeCloseTo(once + (0.1 * 3) / (Math.sqrt(18) + 1), 6);
    expect(Object.keys(second?.state ?? {})).toEqual(["variance"]);
  });
});

describe("a server optimiser with Yogi", () => {
  const yogi = withServerOptimizer(segmentWise(), { name: "yogi", lr: 0.1, beta1: 0.5, beta2: 0.75, tau: 1 });

  it("moves the variance by a share of the square, up or down, whatever lies between them", () => {
    const rounds = play(yogi, [
      [small, large],
      [small, large],
    ]);
    // g = 3: v = 0.25·9, then 0.25·9 more, where Adam would have 0.75·2.25 + 0.25·9; m = 1.5, then 2.25.
    expect(rounds.map(({ state }) => state?.["variance"]?.[0])).toEqual([2.25, 4.5]);
    expect(rounds.map(({ state }) => state?.["velocity"]?.[0])).toEqual([1.5, 2.25]);
    const once = 1 + (0.1 * 1.5) / (1.5 + 1);
    expect(rounds[0]?.global.rows[0]).toBeCloseTo(once, 6);
    expect(rounds[1]?.global.rows[0]).toBeCloseTo(once + (0.1 * 2.25) / (Math.sqrt(4.5) + 1), 6);
  });

  it("lowers a variance that is above the square", () => {
    const state = { variance: new Float32Array(9).fill(100), velocity: new Float32Array(9) };
    const next = aggregate(yogi, { ...context, state }, [small, large]);
    expect(next.state?.["variance"]?.[0]).toBe(100 - 0.25 * 9);
  });
});

it.each([
  [{ name: "foo" }, "serverOptimizer.name", ["momentum", "yogi", '"foo"']],
  [{ name: "yogi", beta2: 2 }, "serverOptimizer.beta2", [1, 2]],
  [{ name: "adam", beta1: -1 }, "serverOptimizer.beta1", [0, -1]],
  [{ name: "adagrad", tau: 0 }, "serverOptimizer.tau", [0, 0]],
  [{ name: "momentum", lr: Number.NaN }, "serverOptimizer.lr", [0, "NaN"]],
  [{ name: "adagrad", beta1: 0.9 }, "serverOptimizer.beta1", ["adagrad", "lr, tau", 0.9]],
])("a server optimiser refuses %o", async (options, path, facts) => {
  expect(await issuesOf(() => withServerOptimizer(segmentWise(), options as never))).toEqual([issue(path, facts)]);
});

it("a server optimiser changes nothing in a round without reports", () => {
  const momentum = withServerOptimizer(segmentWise(), { name: "momentum" });
  const [first, second] = play(momentum, [[small, large], []]);
  expect(second).toMatchObject({ global: first?.global, state: first?.state });
});

it("a server optimiser leaves what the aggregation holds where it is, with its state, and keeps the aggregation's own state", () => {
  const holding: Aggregation = {
    ...segmentWise(),
    begin(round) {
      const { add, finish } = segmentWise().begin(round);
      const own = { mine: Float32Array.of(7) };
      return { add, finish: () => after(finish(), (outcome) => ({ ...outcome, held: [2, "dense"], state: own })) };
    },
  };
  const state = { velocity: new Float32Array(9).fill(1) };
  const next = aggregate(withServerOptimizer(holding, { name: "momentum", momentum: 0.5 }), { ...context, state }, [small, large]);
  // The first component moves by 3 and half of the velocity.
  expect([next.global.rows[0], next.state?.["velocity"]?.[0]]).toEqual([1 + 3.5, 3.5]);
  const plain = aggregate(segmentWise(), context, [small, large]);
  expect(next.global.rows.slice(4)).toEqual(plain.global.rows.slice(4));
  expect(next.global.dense).toEqual(plain.global.dense);
  expect([...(next.state?.["velocity"]?.slice(4) ?? [])]).toEqual([1, 1, 1, 1, 1]);
  expect(next.state?.["mine"]).toEqual(Float32Array.of(7));
});

it.each([
  [{ name: "momentum" }, { lr: 1, momentum: 0.9 }],
  [{ name: "adagrad" }, { lr: 0.1, tau: 1e-3 }],
  [{ name: "adam" }, { lr: 0.01, beta1: 0.9, beta2: 0.99, tau: 1e-3 }],
  [{ name: "yogi" }, { lr: 0.01, beta1: 0.9, beta2: 0.99, tau: 1e-3 }],
] as const)("a server optimiser %o has the guide's defaults", (given, defaults) => {
  const rounds = [
    [small, large],
    [small, large],
  ];
  const [, short] = play(withServerOptimizer(segmentWise(), given), rounds);
  const [, long] = play(withServerOptimizer(segmentWise(), { ...given, ...defaults }), rounds);
  expect(bytesOf(short!.global)).toEqual(bytesOf(long!.global));
});
