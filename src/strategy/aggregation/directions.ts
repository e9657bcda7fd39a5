import type { AdapterLayout } from "../../adapter/layout.ts";
import { matrixKernel } from "../../tensor/matrix-kernel.ts";

/*
 * What products B·A are along the directions u_k·v_kᵀ of an adapter: its components, with both factors of length 1. The "magnitude"
 * of a product along direction k is u_kᵀ·(B·A)·v_k. Magnitudes are [modules, R], module by module.
 */

/** Rows [r, width] as those of an adapter. */
type Rows = Float32Array | Float64Array;

/** Every factor of every component divided by its length; one of zeros, which has no direction, stays as it is. */
export function unitRows(rows: Float32Array, { modules, width }: AdapterLayout): Float64Array {
  const units = Float64Array.from(rows);
  for (let start = 0; start < units.length; start += width) {
    for (const { offset, in: a, out: b } of modules) {
      normalise(units.subarray(start + offset, start + offset + a));
      normalise(units.subarray(start + offset + a, start + offset + a + b));
    }
  }
  return units;
}

/** [modules, R, r]: (u_k·b_j)·(v_k·a_j), the magnitude of every component of `rows` [r, width] along every direction. */
export function magnitudesOfEach(directions: Float64Array, rows: Rows, { modules, width }: AdapterLayout): Float64Array {
  const [count, r] = [directions.length / width, rows.length / width];
  const magnitudes = new Float64Array(modules.length * count * r);
  const products = (from: number, length: number) =>
    rowProducts(part(directions, width, from, length), part(rows, width, from, length), length);
  for (const [index, { offset, in: a, out: b }] of modules.entries()) {
    const [ofA, ofB] = [products(offset, a), products(offset + a, b)];
    magnitudes.set(
      ofA.map((value, at) => value * (ofB[at] as number)),
      index * count * r,
    );
  }
  return magnitudes;
}

/**
 * Magnitudes of Σ_j weight_j·b_j·a_jᵀ from those of each component [modules, R, r]; `weights` [modules, r] are 1 where left out.
 */
export function summedMagnitudes(ofEach: Float64Array, r: number, count: number, weights?: Float32Array): Float32Array {
  return Float32Array.from({ length: ofEach.length / r }, (_, index) => {
    const module = Math.floor(index / count);
    let sum = 0;
    for (let j = 0; j < r; j++) sum += (weights?.[module * r + j] ?? 1) * (ofEach[index * r + j] as number);
    return sum;
  });
}

/** Values [from, from + length) of every row. */
function part(rows: Rows, width: number, from: number, length: number): Float64Array {
  const values = new Float64Array((rows.length / width) * length);
  for (let row = 0; row * width < rows.length; row++)
    values.set(rows.subarray(row * width + from, row * width + from + length), row * length);
  return values;
}

/** x·yᵀ, [m, n], for x [m, length] and y [n, length]. */
function rowProducts(x: Float64Array, y: Float64Array, length: number): Float64Array {
  if (matrixKernel && length >= LONG) return matrixKernel.rowProducts(x, length, y);
  const n = y.length / length;
  return Float64Array.from({ length: (x.length / length) * n }, (_, at) =>
    dot(x, Math.floor(at / n) * length, y, (at % n) * length, length),
  );
}

/** From here on the kernel is faster. */
const LONG = 64;

function normalise(vector: Float64Array): void {
  const length = Math.sqrt(dot(vector, 0, vector, 0, vector.length));
  if (length > 0) for (let index = 0; index < vector.length; index++) vector[index] = (vector[index] as number) / length;
}

function dot(x: Rows, xAt: number, y: Rows, yAt: number, length: number): number {
  let sum = 0;
  for (let index = 0; index < length; index++) sum += (x[xAt + index] as number) * (y[yAt + index] as number);
  return sum;
}
