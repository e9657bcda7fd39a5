import type { AdapterModule } from "../../adapter/layout.ts";
import { type PartialProducts, partialSvds, type ProductSvd } from "../../tensor/product-svd.ts";
import type { Update } from "../strategy.ts";
import { shares } from "./buffered-updates.ts";

/** left·rightᵀ, [out, in]: one term of a sum of products. */
export interface Pair {
  readonly left: Float64Array;
  readonly right: Float64Array;
}

/**
 * The mean change of a module's product, Σ_k p_k·(B_k·A_k − B[:, :r_k]·A[:r_k]), in Σ r_k + max r_k pairs:
 *
 *     Σ_k p_k·(B_k − B[:, :r_k])·A_k + B·Σ_k p_k·(A_k − A[:r_k])
 *
 * No two terms cancel, so that a small change of a large product is as precise as a large one, and no change is exactly 0. All
 * clients received prefixes of one adapter, (A, B).
 */
export function changePairs(updates: readonly Update[], { offset, in: a, out: b }: AdapterModule, width: number): readonly Pair[] {
  const p = shares(updates);
  const largest = updates.reduce((found, update) => (update.r > found.r ? update : found));
  const own = updates.flatMap(({ r, received, delta }, k) =>
    range(r).map((row) => {
      const start = row * width + offset;
      return {
        left: vector(b, (index) => (p[k] as number) * at(delta.rows, start + a + index)),
        right: vector(a, (index) => at(received.rows, start + index) + at(delta.rows, start + index)),
      };
    }),
  );
  const shared = range(largest.r).map((row) => {
    const start = row * width + offset;
    const right = new Float64Array(a);
    for (const [k, { r, delta }] of updates.entries()) {
      if (r <= row) continue;
      for (let index = 0; index < a; index++) right[index] = at(right, index) + (p[k] as number) * at(delta.rows, start + index);
    }
    return { left: vector(b, (index) => at(largest.received.rows, start + a + index)), right };
  });
  return [...own, ...shared];
}

/** factor·B·A of a module, in one pair a row of `rows` [r, width]. */
export function componentPairs(
  rows: Float32Array,
  factor: number,
  { offset, in: a, out: b }: AdapterModule,
  width: number,
): readonly Pair[] {
  return range(rows.length / width).map((row) => {
    const start = row * width + offset;
    return {
      left: vector(b, (index) => factor * at(rows, start + a + index)),
      right: vector(a, (index) => at(rows, start + index)),
    };
  });
}

/** The singular triplets of sums of the first pairs. */
export function svdsOfPairs(
  pairs: readonly Pair[],
  { in: a, out: b }: AdapterModule,
  parts: readonly PartialProducts[],
): readonly ProductSvd[] {
  const stack = (length: number, vectorOf: (pair: Pair) => Float64Array) => {
    const vectors = new Float64Array(pairs.length * length);
    for (const [row, pair] of pairs.entries()) vectors.set(vectorOf(pair), row * length);
    return { vectors, length };
  };
  return partialSvds(
    stack(b, ({ left }) => left),
    stack(a, ({ right }) => right),
    parts,
  );
}

function range(count: number): readonly number[] {
  return Array.from({ length: count }, (_, index) => index);
}

function vector(length: number, valueAt: (index: number) => number): Float64Array {
  const values = new Float64Array(length);
  for (let index = 0; index < length; index++) values[index] = valueAt(index);
  return values;
}

function at(values: Float32Array | Float64Array, index: number): number {
  return values[index] as number;
}
