import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createRng, deriveSeed } from "../../../src/base/rng.ts";
import { thinQr } from "../../../src/tensor/thin-qr.ts";

describe("thinQr", () => {
  it("adds a basis vector for each new direction, and none for vectors already spanned", () => {
    const { basis, coordinates } = thinQr(Float64Array.of(3, 4, 0, 6, 8, 0, 0, 0, 2, 0, 0, 0), 3);
    expect([...basis].map((value) => Number(value.toFixed(12)))).toEqual([0.6, 0.8, 0, 0, 0, 1]);
    expect(coordinates.map((own) => [...own])).toEqual([[5], [10], [0, 2], [0, 0]]);
  });

  it("finds no direction in zero vectors, or without vectors", () => {
    expect(thinQr(new Float64Array(6), 3).basis).toHaveLength(0);
    expect(thinQr(new Float64Array(0), 3)).toEqual({ basis: new Float64Array(0), coordinates: [] });
  });

  const stacks = fc.record({
    count: fc.integer({ min: 1, max: 24 }),
    length: fc.integer({ min: 1, max: 20 }),
    /** How much vectors differ from one of the first three, like clients that start from the same A. */
    spread: fc.constantFrom(1, 1e-3, 1e-7, 1e-11, 0),
    size: fc.constantFrom(1, 1e-30, 1e30),
    seed: fc.nat(),
  });
  it("has an orthonormal basis that reproduces the vectors, however close to each other they are", () => {
    fc.assert(
      fc.property(stacks, ({ count, length, spread, size, seed }) => {
        const rng = createRng(deriveSeed(seed));
        const common = Array.from({ length: 3 * length }, () => rng.next() - 0.5);
        const vectors = Float64Array.from(
          { length: count * length },
          (_, index) => size * (common[index % (3 * length)]! + spread * (rng.next() - 0.5)),
        );
        const { basis, coordinates } = thinQr(vectors, length);
        const rank = basis.length / length;
        expect(rank).toBeLessThanOrEqual(Math.min(count, length));
        const q = (row: number) => basis.subarray(row * length, (row + 1) * length);
        for (let i = 0; i < rank; i++) {
          for (let j = 0; j <= i; j++) expect(dot(q(i), q(j))).toBeCloseTo(i === j ? 1 : 0, 12);
        }
        for (const [vector, own] of coordinates.entries()) {
          for (let index = 0; index < length; index++) {
            const sum = own.reduce((total, share, row) => total + share * q(row)[index]!, 0);
            expect(sum / size).toBeCloseTo(vectors[vector * length + index]! / size, 11);
          }
        }
      }),
    );
  });
});

function dot(a: Float64Array, b: Float64Array): number {
  return a.reduce((sum, value, index) => sum + value * b[index]!, 0);
}
