import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createLane } from "../../../src/tensor/create-fold-kernel.ts";
import { decode, type Dtype, type Encoded, encodedBytes } from "../../../src/tensor/encoded.ts";
import { BLOCK, type Lane } from "../../../src/tensor/fold-kernel.ts";
import { createPlainLane } from "../../../src/tensor/plain-fold-kernel.ts";
import { createSimdLane } from "../../../src/tensor/simd-fold-kernel.ts";

const dtypes: readonly Dtype[] = ["F32", "BF16", "F16", "I8X256"];
const simdLane = (length: number): Lane => {
  if (!createSimdLane) throw new Error("this machine has no vector instructions in WebAssembly");
  return createSimdLane(length);
};

/** Any bits, but with large exponents reduced, so that few values are beyond 64 or not finite. */
function encodedOf(dtype: Dtype, length: number, seed: Uint8Array): Encoded {
  const bytes = new Uint8Array(encodedBytes(dtype, length)).map((_, index) => (seed[index % seed.length] ?? 0) ^ (index * 167));
  const size = dtype === "F32" ? 4 : 2;
  if (dtype === "I8X256") for (let at = 0; at < bytes.length; at += 260) bytes.set(smallFloat(bytes.subarray(at, at + 4)), at);
  // The byte of the sign and the upper bits of the exponent.
  else for (let at = size - 1; at < bytes.length; at += size) bytes[at] = (bytes[at] as number) & (dtype === "F16" ? 0xd3 : 0xbf);
  return { dtype, length, bytes };
}

function smallFloat(bytes: Uint8Array): Uint8Array {
  return Uint8Array.of(bytes[0] ?? 0, bytes[1] ?? 0, bytes[2] ?? 0, (bytes[3] ?? 0) & 0x3e);
}

/** The integers after folding one block in two parts, and the first value beyond the bound. */
function folded(make: (length: number) => Lane, values: Encoded, factor: number) {
  const lane = make(values.length + 1);
  lane.take(values, 0, values.length);
  const split = Math.floor(values.length / 3);
  lane.fold(0, split, 1, factor);
  lane.fold(split, values.length - split, split + 1, factor);
  lane.fold(0, split, 0, -factor / 3);
  return { integers: Buffer.from(lane.integers.buffer, lane.integers.byteOffset, 8 * (values.length + 1)), beyond: lane.firstBeyond(1e-3) };
}

describe("the plain and the SIMD fold kernel", () => {
  it.each(dtypes)("give the same bytes for %s of every length", (dtype) => {
    fc.assert(
      fc.property(
        fc.oneof(fc.integer({ min: 0, max: 70 }), fc.integer({ min: 250, max: 1100 })),
        fc.uint8Array({ minLength: 1, maxLength: 2111 }),
        fc.constantFrom(1, 3, 2 ** 30, 12345.678, 2 ** 44),
        (length, seed, factor) => {
          const values = encodedOf(dtype, length, seed);
          const [plain, simd] = [folded(createPlainLane, values, factor), folded(simdLane, values, factor)];
          expect(simd.integers.equals(plain.integers)).toBe(true);
          expect(simd.beyond).toEqual(plain.beyond);
        },
      ),
    );
  });

  it.each(["BF16", "F16"] as const)("decode every value of %s, and find those beyond the bound", (dtype) => {
    for (let bits = 0; bits < 65536; bits += BLOCK) {
      const halves = Uint16Array.from({ length: BLOCK }, (_, index) => bits + index);
      const all = { dtype, length: BLOCK, bytes: new Uint8Array(halves.buffer) };
      const values = decode(all);
      const within = halves.filter((_, index) => Math.abs(values[index] as number) <= 64);
      const encoded = { dtype, length: within.length, bytes: new Uint8Array(within.buffer) };
      const lanes = [createPlainLane(BLOCK), simdLane(BLOCK)];
      for (const lane of lanes) {
        lane.take(all, 0, BLOCK);
        const first = values.findIndex((value) => !(Math.abs(value) <= 64));
        expect(lane.firstBeyond(64)?.index ?? -1).toBe(first);
        lane.take(encoded, 0, within.length);
        expect(lane.firstBeyond(64)).toBeUndefined();
        lane.fold(0, within.length, 0, 2 ** 44);
      }
      const expected = decode(encoded).map((value) => value * 2 ** 44);
      if (dtype === "F16")
        expect(Float32Array.from(lanes[1]!.integers.subarray(0, within.length))).toEqual(expected.map((value) => value + 0));
      expect(lanes[1]!.integers).toEqual(lanes[0]!.integers);
    }
  });

  it("find a value beyond the bound at every index, and ignore values after the end", () => {
    const values = new Float32Array(13);
    const encoded = { dtype: "F32", length: 13, bytes: new Uint8Array(values.buffer) } as const;
    for (const lane of [createPlainLane(0), simdLane(0)]) {
      lane.take({ dtype: "F32", length: 14, bytes: new Uint8Array(Float32Array.from({ length: 14 }, () => 99).buffer) }, 0, 14);
      for (const value of [64.1, Number.NaN, -Infinity]) {
        for (let index = 0; index < 13; index++) {
          values.fill(-64)[index] = value;
          lane.take(encoded, 0, 13);
          expect(lane.firstBeyond(64)).toEqual({ index, value: Math.fround(value) });
        }
      }
      lane.take({ ...encoded, length: 12 }, 0, 12);
      expect(lane.firstBeyond(64)).toBeUndefined();
    }
  });

  it("compare exactly with a bound that float32 cannot represent", () => {
    const bound = 0.1;
    const [below, above] = [Math.fround(0.1) - 2 ** -27, Math.fround(0.1)];
    expect([below <= bound, above <= bound]).toEqual([true, false]);
    for (const lane of [createPlainLane(0), simdLane(0)]) {
      lane.take({ dtype: "F32", length: 2, bytes: new Uint8Array(Float32Array.of(below, above).buffer) }, 0, 2);
      expect(lane.firstBeyond(bound)?.index).toBe(1);
    }
  });
});

it("the SIMD fold kernel is used if the machine has vector instructions", () => {
  expect(createLane).toBe(createSimdLane);
});
