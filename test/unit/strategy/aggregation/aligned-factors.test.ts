import { describe, expect, it } from "vitest";
import { writeAligned } from "../../../../src/strategy/aggregation/aligned-factors.ts";

const place = { offset: 0, in: 2, out: 2, width: 4 };

/** Σ values[c]·e_c·e_cᵀ */
function diagonal(...values: readonly number[]) {
  const unit = (c: number) => (c === 0 ? [1, 0] : [0, 1]);
  const vectors = () => Float64Array.from(values.flatMap((_, c) => unit(c)));
  return { values: Float64Array.from(values), left: vectors(), right: vectors() };
}

function aligned(svd: ReturnType<typeof diagonal>, previous: readonly number[]): readonly number[] {
  const rows = new Float32Array(8).fill(7);
  writeAligned(rows, svd, Float32Array.from(previous), place);
  // -0 + 0 is +0.
  return Array.from(rows, (value) => value + 0);
}

describe("writeAligned", () => {
  it("orders equal singular values as the previous components, and takes their signs", () => {
    expect(aligned(diagonal(4, 4 - 1e-9), [0, 3, 0, 3, -1, 0, -1, 0])).toEqual([0, 2, 0, 2, -2, 0, -2, 0]);
  });

  it("orders others by size alone, so that every prefix is the best of its rank", () => {
    expect(aligned(diagonal(9, 4), [0, 3, 0, 3, 1, 0, 1, 0])).toEqual([3, 0, 3, 0, 0, 2, 0, 2]);
  });

  it("takes the sign of A where the previous B is zero", () => {
    expect(aligned(diagonal(4, 1), [-1, 0, 0, 0, 0, -1, 0, 0])).toEqual([-2, 0, -2, 0, 0, -1, 0, -1]);
  });

  it("keeps the previous A, with B = 0, where there is no singular value", () => {
    expect(aligned(diagonal(4), [1, 0, 1, 0, 5, 6, 7, 8])).toEqual([2, 0, 2, 0, 5, 6, 0, 0]);
  });
});
