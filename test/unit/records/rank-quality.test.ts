import { describe, expect, it } from "vitest";
import { areaUnderRanks, worstTier } from "../../../src/records/rank-quality.ts";
import type { TierMetrics } from "../../../src/records/metrics.ts";
import { tierMetrics } from "../../support/tier-metrics.ts";

const tiersOf = (values: Readonly<Record<number, number | null>>) =>
  Object.entries(values).map(([r, loss]) => tierMetrics(Number(r), { loss }));
const loss = (tier: TierMetrics) => tier.loss;

describe("the area under the rank–quality curve", () => {
  it("weights every doubling equally: 2 → 8 counts twice as much as 1 → 2", () => {
    expect(areaUnderRanks(tiersOf({ 1: 4, 2: 2, 8: 1 }), loss)).toBeCloseTo((3 * 1 + 1.5 * 2) / 3, 12);
  });

  it("is the value itself if all tiers share it or there is only one", () => {
    expect(areaUnderRanks(tiersOf({ 1: 5, 2: 5, 4: 5 }), loss)).toBe(5);
    expect(areaUnderRanks(tiersOf({ 4: 3 }), loss)).toBe(3);
  });

  it("is null if a tier's value is missing or there are no tiers", () => {
    expect(areaUnderRanks(tiersOf({ 1: 4, 2: null }), loss)).toBeNull();
    expect(areaUnderRanks([], loss)).toBeNull();
  });
});

it("the worst tier has the lowest value if higher is better, and the highest if lower is better", () => {
  expect(worstTier(tiersOf({ 1: 4, 2: 2 }), loss, "lower")).toBe(4);
  expect(worstTier(tiersOf({ 1: 4, 2: 2 }), loss, "higher")).toBe(2);
  expect(worstTier(tiersOf({ 1: 4, 2: null }), loss, "lower")).toBeNull();
});
