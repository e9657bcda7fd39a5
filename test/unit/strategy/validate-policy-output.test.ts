import { describe, expect, test } from "vitest";
import { createLayout } from "../../../src/adapter/layout.ts";
import { RunFailedError } from "../../../src/errors.ts";
import { requireAggregate, requireShape } from "../../../src/strategy/validate-policy-output.ts";
import type { Aggregate } from "../../../src/strategy/strategy.ts";
import { inTurns } from "../../../src/base/turns.ts";

const layout = createLayout(
  { r: 2, tiers: [1, 2], scale: 1 },
  { modules: [{ name: "m", in: 2, out: 2 }], dense: [{ name: "head", shape: [2] }] },
);
const global = { r: 2, rows: new Float32Array(8), dense: new Float32Array(2) };
const coverage = layout.tiers.map((r) => ({ r, clients: 1, examples: 10 }));
const check = (aggregate: unknown) =>
  inTurns(requireAggregate("the aggregation's finish() of round 3", aggregate as Aggregate | undefined, layout));

test("valid output of an aggregation passes", () => {
  expect(() => check({ global, coverage })).not.toThrow();
  expect(() => requireShape("x", { ...global, r: 1, rows: new Float32Array(4) }, 1, layout)).not.toThrow();
});

describe("an error blames finish() for", () => {
  test.each<readonly [string, unknown, RegExp]>([
    ["no result", undefined, /rank 2 with 8 floats of rows and 2 of dense\b.*rank undefined/],
    ["an adapter of the wrong size", { global: { ...global, rows: new Float32Array(4) }, coverage }, /, .*rank 2 with 4 floats of rows/],
    ["a plain array instead of a Float32Array", { global: { ...global, rows: [1, 2, 3, 4, 5, 6, 7, 8] }, coverage }, /no floats of rows/],
    ["a value that is not finite", { global: { ...global, dense: Float32Array.of(1, Number.NaN) }, coverage }, /dense\[1\] = NaN/],
    ["a missing coverage", { global }, /coverage\b.*\b2 tiers.*none/],
    [
      "a coverage that the journal could not hold",
      { global, coverage: [coverage[0], { r: 2, clients: 0.5, examples: 3 }] },
      /coverage of tier 2 .*0\.5/,
    ],
    ["an invalid state", { global, coverage, state: null }, /state of Float32Arrays.*null/],
  ])("%s", (_, aggregate, message) => {
    expect(() => check(aggregate)).toThrow(RunFailedError);
    expect(() => check(aggregate)).toThrow(/finish\(\) of round 3 /);
    expect(() => check(aggregate)).toThrow(message);
  });
});

test("distribute() must not give a smaller client the whole adapter", () => {
  const whole = () => requireShape("the aggregation's distribute()", global, 1, layout);
  expect(whole).toThrow(/^the aggregation's distribute\(\) .*rank 1 with 4 floats of rows and 2 of dense, .*rank 2 with 8\b/);
});
