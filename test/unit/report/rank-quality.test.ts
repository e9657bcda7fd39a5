import { describe, expect, it } from "vitest";
import { areaUnderRanks, worstTier } from "../../../src/report/rank-quality.ts";
import type { TierMetrics } from "../../../src/records/metrics.ts";

const tiersOf = (values: Readonly<Record<number, number | null>>): TierMetrics[] =>
  Object.entries(values).map(([r, loss]) => ({
    r: Number(r),
    loss,
    perplexity: null,
    accuracy: null,
    macroF1: null,
    rougeL: null,
    own: [],
    examples: 1,
  }));
const loss = (tier: TierMetrics) => tier.loss;

describe("the area under the rank–quality curve", () => {
  it("weighs every doubling alike: 1 → 2 half way between, 2 → 8 twice as wide", () => {
    expect(areaUnderRanks(tiersOf({ 1: 4, 2: 2, 8: 1 }), loss)).toBeCloseTo((3 * 1 + 1.5 * 2) / 3, 12);
  });

  it("is the value itself where all tiers have the same, or there is one", () => {
    expect(areaUnderRanks(tiersOf({ 1: 5, 2: 5, 4: 5 }), loss)).toBe(5);
    expect(areaUnderRanks(tiersOf({ 4: 3 }), loss)).toBe(3);
  });

  it("is missing where a tier's value is, or there are no tiers", () => {
    expect(areaUnderRanks(tiersOf({ 1: 4, 2: null }), loss)).toBeNull();
    expect(areaUnderRanks([], loss)).toBeNull();
  });
});

it("the worst tier is the lowest of what should be high, the highest of what should be low", () => {
  expect(worstTier(tiersOf({ 1: 4, 2: 2 }), loss, "lower")).toBe(4);
  expect(worstTier(tiersOf({ 1: 4, 2: 2 }), loss, "higher")).toBe(2);
  expect(worstTier(tiersOf({ 1: 4, 2: null }), loss, "lower")).toBeNull();
});
