import { expect, test } from "vitest";
import { firstBeyond } from "../../../src/tensor/bounds.ts";
import { asFloat32 } from "../../../src/tensor/encoded.ts";
import { BLOCK } from "../../../src/tensor/fold-kernel.ts";
import { BLOCKS_A_TURN, inTurns } from "../../../src/base/turns.ts";

const find = (values: Float32Array) => inTurns(firstBeyond(asFloat32(values), 64));

test("values equal to a bound are within it", () => {
  expect(find(Float32Array.of(0, -0, 64, -64))).toBeUndefined();
  expect(find(new Float32Array(0))).toBeUndefined();
});

test.each([
  ["a value above the upper bound", 64.00001],
  ["a value below the lower bound", -65],
  ["NaN", Number.NaN],
  ["infinity", Number.NEGATIVE_INFINITY],
])("%s is found with its index", (_, value) => {
  expect(find(Float32Array.of(1, 2, value, Number.NaN))).toEqual({ index: 2, value: Math.fround(value) });
});

test("the search through more values than one turn takes several turns, up to the end", async () => {
  const values = new Float32Array(BLOCK * BLOCKS_A_TURN + 10);
  values[values.length - 2] = 65;
  const found = find(values);
  expect(found).toBeInstanceOf(Promise);
  expect(await found).toEqual({ index: values.length - 2, value: 65 });
});
