import * as fc from "fast-check";
import { expect, test } from "vitest";
import { apportion } from "../../../src/strategy/apportion.ts";

test.each([
  ["keeps whole quotas", [1, 2, 3], 0, [1, 2, 3]],
  ["gives the rest to the largest remainder", [1.2, 2.7, 1.1], 0, [1, 3, 1]],
  ["breaks ties in favour of the first", [0.5, 0.5], 0, [1, 0]],
  ["rounds up a quota that floating point left just under a whole number", [0.29 * 100, 71], 0, [29, 71]],
  ["gives everyone the minimum, even if that exceeds the sum", [0.1, 0.1, 0.8], 1, [1, 1, 1]],
])("apportionment %s", (_, quotas, least, expected) => {
  expect(apportion(quotas, least)).toEqual(expected);
});

test("counts add up to the rounded sum of the quotas, each within one of its quota", () => {
  fc.assert(
    fc.property(fc.array(fc.double({ min: 0, max: 100, noNaN: true }), { minLength: 1, maxLength: 8 }), (quotas) => {
      const counts = apportion(quotas, 0);
      expect(counts.reduce((sum, count) => sum + count)).toBe(Math.round(quotas.reduce((sum, quota) => sum + quota)));
      counts.forEach((count, index) => expect(Math.abs(count - quotas[index]!)).toBeLessThanOrEqual(1));
    }),
  );
});
