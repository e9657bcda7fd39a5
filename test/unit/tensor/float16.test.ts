import { expect, test } from "vitest";
import { decode } from "../../../src/tensor/encoded.ts";
import { toFloat16 } from "../../../src/tensor/float16.ts";

const halvesOf = (values: readonly number[]) => [...new Uint16Array(toFloat16(Float32Array.from(values)).bytes.buffer)];

test("every float16 number is rounded to itself", () => {
  const all = Uint16Array.from({ length: 2 ** 16 }, (_, half) => half).filter((half) => (half & 0x7c00) !== 0x7c00 || (half & 0x3ff) === 0);
  const values = decode({ dtype: "F16", length: all.length, bytes: new Uint8Array(all.buffer) });
  expect(new Uint16Array(toFloat16(values).bytes.buffer)).toEqual(all);
});

test("rounding to float16 goes to the nearest, on a tie to the even one, and beyond the largest to infinity", () => {
  expect(halvesOf([1 + 2 ** -11, 1 + 3 * 2 ** -11, 1 + 2 ** -11 + 2 ** -20])).toEqual([0x3c00, 0x3c02, 0x3c01]);
  expect(halvesOf([2 ** -25, 3 * 2 ** -25, -(2 ** -25 + 2 ** -40)])).toEqual([0, 2, 0x8001]);
  expect(halvesOf([65519, 65520, -1e9, Number.NaN])).toEqual([0x7bff, 0x7c00, 0xfc00, 0x7e00]);
  expect(halvesOf([2047.5, 1023.75 * 2 ** -24])).toEqual([0x6800, 0x0400]);
});
