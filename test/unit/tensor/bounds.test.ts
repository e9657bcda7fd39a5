import { expect, test } from "vitest";
import { firstBeyond } from "../../../src/tensor/bounds.ts";

test("the bound itself, on both sides, is within", () => {
  expect(firstBeyond(Float32Array.of(0, -0, 64, -64), 64)).toBe(-1);
  expect(firstBeyond(new Float32Array(0), 64)).toBe(-1);
});

test.each([
  ["a value above the bound", 64.00001],
  ["a value below it", -65],
  ["NaN", Number.NaN],
  ["infinity", Number.NEGATIVE_INFINITY],
])("%s is found at its index", (_, value) => {
  expect(firstBeyond(Float32Array.of(1, 2, value, Number.NaN), 64)).toBe(2);
});
