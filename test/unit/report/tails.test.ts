import * as fc from "fast-check";
import { expect, test } from "vitest";
import { median, tails, total } from "../../../src/report/tails.ts";

test("the tails are both ends of a stable sort, the largest first", () => {
  const cases = fc.property(fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 6 }), fc.integer({ min: 1, max: 3 }), (values, count) => {
    const sorted = [...values.keys()].toSorted((a, b) => (values[b] as number) - (values[a] as number));
    expect(tails(values, count)).toEqual([...sorted.slice(0, count), ...sorted.slice(-count)]);
  });
  fc.assert(cases);
});

test("a median is one of the values, the lower of two", () => {
  expect(median([5, 1, 9])).toBe(5);
  expect(median(Uint32Array.of(4, 1, 2, 3))).toBe(2);
  expect(median([])).toBe(0);
});

test("300,000 values have tails, a median and a total", () => {
  const values = Uint32Array.from({ length: 300_000 }, (_, index) => index);
  expect(tails(values, 2)).toEqual([299_999, 299_998, 1, 0]);
  expect(median(values)).toBe(149_999);
  expect(total(values)).toBe((299_999 * 300_000) / 2);
});
