import { expect, it } from "vitest";
import { confidence, spread } from "../../../src/compare/statistics.ts";

it("a spread is the mean and the sample standard deviation, with n − 1", () => {
  expect(spread([2, 4, 4, 4, 5, 5, 7, 9])).toEqual({ mean: 5, sd: Math.sqrt(32 / 7), n: 8 });
  expect(spread([3])).toEqual({ mean: 3, sd: 0, n: 1 });
});

it("the interval of five differences has half the width t(0.975, 4)·sd/√5 = 2.776·sd/√5", () => {
  const { mean, half } = confidence([1, 2, 3, 4, 5]);
  expect(mean).toBe(3);
  expect(half).toBeCloseTo((2.776 * Math.sqrt(2.5)) / Math.sqrt(5), 12);
});

it("a single difference has no interval, and more than 31 use the quantile of 30 degrees of freedom", () => {
  expect(confidence([1])).toEqual({ mean: 1, half: null });
  const many = Array.from({ length: 101 }, (_, index) => index % 2);
  expect(confidence(many).half).toBeCloseTo((2.042 * spread(many).sd) / Math.sqrt(101), 12);
});
