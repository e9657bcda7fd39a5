import { readFileSync } from "node:fs";
import { describe, expect, it, test } from "vitest";
import { asFloat32, decode, decodePart, type Dtype, encodedBytes, toBfloat16 } from "../../../src/tensor/encoded.ts";

/** Written by test/fixtures/wire/generate.py with the worker's own code, whose tests check these bytes, too. */
const golden = JSON.parse(readFileSync(new URL("../../fixtures/wire/encoded.json", import.meta.url), "utf8")) as readonly {
  readonly dtype: Dtype;
  readonly values: string;
  readonly encoded: string;
  readonly decoded: string;
}[];
const bytesOf = (hex: string) => new Uint8Array(Buffer.from(hex, "hex"));
const hexOf = ({ buffer, byteOffset, byteLength }: Float32Array) => Buffer.from(buffer, byteOffset, byteLength).toString("hex");

describe("values that a worker sends", () => {
  it.each(golden)("as $dtype are decoded to the worker's values, at any alignment", ({ dtype, values, encoded, decoded }) => {
    const length = values.length / 8;
    const bytes = bytesOf(encoded);
    expect(bytes.length).toBe(encodedBytes(dtype, length));
    expect(hexOf(decode({ dtype, length, bytes }))).toBe(decoded);
    const misaligned = new Uint8Array(bytes.length + 1).fill(0xff);
    misaligned.set(bytes, 1);
    expect(hexOf(decode({ dtype, length, bytes: misaligned.subarray(1) }))).toBe(decoded);
  });

  it.each(golden)("as $dtype can be decoded in part, from and to any index", ({ dtype, values, encoded }) => {
    const all = { dtype, length: values.length / 8, bytes: bytesOf(encoded) };
    for (const [from, to] of [
      [0, all.length],
      [1, 2],
      [3, all.length - 1],
      [all.length - 1, all.length],
      [2, 2],
    ] as const) {
      expect(hexOf(decodePart(all, from, to))).toBe(hexOf(decode(all).slice(from, to)));
    }
  });

  test("have golden bytes for every dtype", () => {
    expect(golden.map(({ dtype }) => dtype)).toEqual(["F32", "BF16", "F16", "I8X256"]);
  });
});

test("a group of int8 shares a scale: 3 and -2 steps of 0.5, then 1 step of 8 in the next group", () => {
  const bytes = new Uint8Array(encodedBytes("I8X256", 257));
  const view = new DataView(bytes.buffer);
  view.setFloat32(0, 0.5, true);
  view.setInt8(4, 3);
  view.setInt8(5, -2);
  view.setFloat32(260, 8, true);
  view.setInt8(264, 1);
  const values = decode({ dtype: "I8X256", length: 257, bytes });
  expect([...values.subarray(0, 3), values[256]]).toEqual([1.5, -1, 0, 8]);
});

test("a part can begin and end within groups of int8", () => {
  const bytes = new Uint8Array(encodedBytes("I8X256", 600)).map((_, index) => index % 100);
  const all = { dtype: "I8X256", length: 600, bytes } as const;
  for (const [from, to] of [
    [250, 260],
    [256, 512],
    [10, 600],
    [513, 599],
  ] as const) {
    expect(hexOf(decodePart(all, from, to))).toBe(hexOf(decode(all).slice(from, to)));
  }
});

describe("rounding to bfloat16", () => {
  it.each([
    ["keeps a representable value", 1.5, 1.5],
    ["rounds up to the nearest", 1 + 2 ** -8 + 2 ** -20, 1 + 2 ** -7],
    ["rounds down to the nearest", 1 + 2 ** -8 - 2 ** -20, 1],
    ["rounds half to even, down", 1 + 2 ** -8, 1],
    ["rounds half to even, up", 1 + 3 * 2 ** -8, 1 + 2 ** -6],
    ["keeps the sign", -(1 + 2 ** -8 + 2 ** -20), -(1 + 2 ** -7)],
    ["keeps -0", -0, -0],
    ["keeps the smallest value", 2 ** -133, 2 ** -133],
    ["keeps infinity", -Infinity, -Infinity],
    ["keeps NaN", Number.NaN, Number.NaN],
  ])("%s", (_, value, rounded) => {
    expect(decode(toBfloat16(Float32Array.of(7, value)))).toEqual(Float32Array.of(7, rounded));
  });

  it("keeps a NaN that has only its last bits set", () => {
    expect(decode(toBfloat16(new Float32Array(Uint32Array.of(0x7f800001, 0xffffffff).buffer)))).toEqual(Float32Array.of(NaN, NaN));
  });
});

test("encoding as float32 and decoding it return views of the same memory", () => {
  const values = Float32Array.of(1, 2, 3).subarray(1);
  const encoded = asFloat32(values);
  const decoded = decode(encoded);
  values[0] = 9;
  expect([...encoded.bytes.subarray(0, 4)]).toEqual([0, 0, 0x10, 0x41]);
  expect([...decoded]).toEqual([9, 3]);
});
