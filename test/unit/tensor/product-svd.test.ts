import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { productSvd, type ProductSvd } from "../../../src/tensor/product-svd.ts";
import { createRng, deriveSeed } from "../../../src/base/rng.ts";

describe("productSvd", () => {
  it("finds the singular values of a sum of products, largest first", () => {
    // 2·e1·f2ᵀ + 3·e3·f1ᵀ
    const left = { vectors: Float64Array.of(2, 0, 0, 0, 0, 3), length: 3 };
    const right = { vectors: Float64Array.of(0, 1, 1, 0), length: 2 };
    const svd = productSvd(left, right, 5);
    expect([...svd.values].map((value) => Number(value.toFixed(12)))).toEqual([3, 2]);
    expect(sumOf(svd, 3, 2).map((value) => Number(value.toFixed(12)))).toEqual([0, 2, 0, 0, 3, 0]);
    const first = productSvd(left, right, 1);
    expect(sumOf(first, 3, 2).map((value) => Number(value.toFixed(12)))).toEqual([0, 0, 0, 0, 3, 0]);
  });

  it.each<readonly [string, Float64Array, Float64Array]>([
    ["no products", new Float64Array(0), new Float64Array(0)],
    ["products with zero", Float64Array.of(0, 0, 0), Float64Array.of(1, 2)],
    ["products that cancel", Float64Array.of(1, 2, 3, -1, -2, -3), Float64Array.of(4, 5, 4, 5)],
  ])("finds nothing in %s", (_, left, right) => {
    expect(productSvd({ vectors: left, length: 3 }, { vectors: right, length: 2 }, 2).values).toHaveLength(0);
  });

  it("omits singular values too small for a float32 of the product's size", () => {
    const tiny = 1e-9;
    const { values } = productSvd(
      { vectors: Float64Array.of(1, 0, 0, tiny), length: 2 },
      { vectors: Float64Array.of(1, 0, 0, 1), length: 2 },
      2,
    );
    expect([...values]).toEqual([1]);
  });

  const sums = fc.record({
    count: fc.integer({ min: 1, max: 12 }),
    out: fc.integer({ min: 1, max: 10 }),
    in: fc.integer({ min: 1, max: 10 }),
    seed: fc.nat(),
  });
  it("reproduces the sum and its energy: ‖Σ l·rᵀ‖² = Σ values²", () => {
    fc.assert(
      fc.property(sums, ({ count, out, in: a, seed }) => {
        const rng = createRng(deriveSeed(seed));
        const draw = (length: number) => Float64Array.from({ length }, () => rng.next() - 0.5);
        const [left, right] = [draw(count * out), draw(count * a)];
        const svd = productSvd({ vectors: left, length: out }, { vectors: right, length: a }, 12);
        const expected = Array.from({ length: out * a }, (_, index) => {
          const [row, column] = [Math.floor(index / a), index % a];
          return range(count).reduce((sum, j) => sum + left[j * out + row]! * right[j * a + column]!, 0);
        });
        sumOf(svd, out, a).forEach((value, index) => expect(value).toBeCloseTo(expected[index]!, 6));
        const energy = expected.reduce((sum, value) => sum + value ** 2, 0);
        expect(svd.values.reduce((sum, value) => sum + value ** 2, 0)).toBeCloseTo(energy, 6);
        expect(svd.values.toSorted((a, b) => b - a)).toEqual(svd.values);
      }),
    );
  });
});

/** Σ_c values[c] · left[c] · right[c]ᵀ, row by row. */
function sumOf({ values, left, right }: ProductSvd, out: number, a: number): number[] {
  return Array.from({ length: out * a }, (_, index) => {
    const [row, column] = [Math.floor(index / a), index % a];
    return range(values.length).reduce((sum, c) => sum + values[c]! * left[c * out + row]! * right[c * a + column]!, 0);
  });
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}
