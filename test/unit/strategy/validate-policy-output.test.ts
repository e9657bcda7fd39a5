import { describe, expect, test } from "vitest";
import { createLayout } from "../../../src/adapter/layout.ts";
import { RunFailedError } from "../../../src/errors.ts";
import { requireAggregate, requireShape } from "../../../src/strategy/validate-policy-output.ts";
import type { Aggregate } from "../../../src/strategy/strategy.ts";
import { inTurns } from "../../../src/base/turns.ts";

/* A strategy may be the user's own. */

const layout = createLayout(
  { r: 2, tiers: [1, 2], scale: 1 },
  { modules: [{ name: "m", in: 2, out: 2 }], dense: [{ name: "head", shape: [2] }] },
);
const global = { r: 2, rows: new Float32Array(8), dense: new Float32Array(2) };
const coverage = layout.tiers.map((r) => ({ r, clients: 1, examples: 10 }));
const check = (aggregate: unknown) =>
  inTurns(requireAggregate("the aggregation's finish() of round 3", aggregate as Aggregate | undefined, layout));

test("what is right passes", () => {
  expect(() => check({ global, coverage })).not.toThrow();
  expect(() => requireShape("x", { ...global, r: 1, rows: new Float32Array(4) }, 1, layout)).not.toThrow();
});

describe("what finish() gave wrongly is told as that:", () => {
  test.each<readonly [string, unknown, string]>([
    ["nothing", undefined, "finish() of round 3 must give an adapter of rank 2 with 8 floats of rows and 2 of dense, gave rank undefined"],
    ["an adapter of another size", { global: { ...global, rows: new Float32Array(4) }, coverage }, "gave rank 2 with 4 floats of rows"],
    ["what are no floats", { global: { ...global, rows: [1, 2, 3, 4, 5, 6, 7, 8] }, coverage }, "with no floats of rows"],
    ["a value that is not finite", { global: { ...global, dense: Float32Array.of(1, Number.NaN) }, coverage }, "dense[1] = NaN"],
    ["no coverage", { global }, "the coverage of each of the 2 tiers, gave none"],
    [
      "a coverage that no journal could keep",
      { global, coverage: [coverage[0], { r: 2, clients: 0.5, examples: 3 }] },
      "coverage of tier 2",
    ],
    ["a state that is none", { global, coverage, state: null }, "a state of Float32Arrays, gave null"],
  ])("%s", (_, aggregate, message) => {
    expect(() => check(aggregate)).toThrow(RunFailedError);
    expect(() => check(aggregate)).toThrow(message);
  });
});

test("an adapter that is handed out whole to a smaller client is told, too", () => {
  const whole = () => requireShape("the aggregation's distribute()", global, 1, layout);
  expect(whole).toThrow(
    "the aggregation's distribute() must give an adapter of rank 1 with 4 floats of rows and 2 of dense, gave rank 2 with 8",
  );
});
