import { expect, it } from "vitest";
import { confidence, holm, spread } from "../../../src/compare/statistics.ts";

it("a spread is the mean and the sample standard deviation, with n − 1", () => {
  expect(spread([2, 4, 4, 4, 5, 5, 7, 9])).toEqual({ mean: 5, sd: Math.sqrt(32 / 7), n: 8 });
  expect(spread([3])).toEqual({ mean: 3, sd: 0, n: 1 });
});

it.each([
  // 97.5 % quantiles of Student's t (NIST/SEMATECH e-Handbook, 1.3.6.7.2).
  [2, 12.706],
  [3, 4.303],
  [5, 2.776],
  [6, 2.571],
  [31, 2.042],
  [101, 1.984],
])("the interval of %i differences has half the width t·sd/√n, and ends at 0 where p is 0.05", (n, t) => {
  const differences = Array.from({ length: n }, (_, index) => index);
  const { mean, half } = confidence(differences);
  expect(mean).toBeCloseTo((n - 1) / 2, 12);
  expect(((half ?? 0) * Math.sqrt(n)) / spread(differences).sd).toBeCloseTo(t, 3);
  const shift = mean - (half ?? 0);
  expect(confidence(differences.map((each) => each - shift)).p).toBeCloseTo(0.05, 7);
});

it("p is that of the t-test", () => {
  // Of the density, integrated by Simpson's rule in another language.
  expect(confidence([1, 2, 3, 4, 5.5]).p).toBeCloseTo(0.016550539701, 10);
  expect(confidence([-1, -2, -3, -4.5]).p).toBeCloseTo(0.039020304172, 10);
  expect([confidence([0, 0, 0]).p, confidence([2, 2]).p]).toEqual([1, 0]);
});

it("a single difference has no interval and no p", () => {
  expect(confidence([1])).toEqual({ mean: 1, half: null, p: null });
});

it("Holm rejects from the smallest p on, as long as it is at most 0.05 / (number of those left)", () => {
  expect(holm([0.04, null, 0.01, 0.024])).toEqual([true, false, true, true]);
  expect(holm([0.04, 0.01, 0.026])).toEqual([false, true, false]);
  expect(holm([0.02, 0.03, 0.9])).toEqual([false, false, false]);
  expect(holm([])).toEqual([]);
});
