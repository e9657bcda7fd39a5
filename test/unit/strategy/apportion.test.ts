import * as fc from "fast-check";
import { expect, test } from "vitest";
import { apportion } from "../../../src/strategy/apportion.ts";

test.each([
  ["whole quotas as they are", [1, 2, 3], 0, [1, 2, 3]],
  ["what is over to the largest remainder", [1.2, 2.7, 1.1], 0, [1, 3, 1]],
  ["to the first of equals", [0.5, 0.5], 0, [1, 0]],
  ["a quota that floating point left just under a whole number", [0.29 * 100, 71], 0, [29, 71]],
  ["the least to all, even beyond the sum", [0.1, 0.1, 0.8], 1, [1, 1, 1]],
])("gives %s", (_, quotas, least, expected) => {
  expect(apportion(quotas, least)).toEqual(expected);
});

test("counts sum to the rounded sum, and none is further than one from its quota", () => {
  fc.assert(
    fc.property(fc.array(fc.double({ min: 0, max: 100, noNaN: true }), { minLength: 1, maxLength: 8 }), (quotas) => {
      const counts = apportion(quotas, 0);
      expect(counts.reduce((sum, count) => sum + count)).toBe(Math.round(quotas.reduce((sum, quota) => sum + quota)));
      counts.forEach((count, place) => expect(Math.abs(count - quotas[place]!)).toBeLessThanOrEqual(1));
    }),
  );
});
