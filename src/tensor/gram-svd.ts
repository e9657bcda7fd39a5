import type { MatrixKernel } from "./matrix-kernel.ts";
import type { PartialProducts, ProductSvd, Stack } from "./product-svd.ts";
import { largestEigenpairs } from "./symmetric-eigen.ts";

/**
 * `partialSvds` for many long vectors, in a fraction of the time, from the inner products of the vectors. With L [m, out] and
 * R [m, in] the two stacks, M = Lᵀ·R the sum, and L·Lᵀ = C·Cᵀ:
 *
 *     Cᵀ·(R·Rᵀ)·C·z = σ²·z      v = Rᵀ·C·z / σ      u = M·v / σ
 *
 * Squares have half of the digits: what is smaller than `NEGLIGIBLE` of the largest singular value is lost, and M is reproduced
 * to about that share of it.
 */
export function gramSvds(kernel: MatrixKernel, left: Stack, right: Stack, parts: readonly PartialProducts[]): readonly ProductSvd[] {
  const m = left.vectors.length / left.length;
  const ofLeft = kernel.lowerFactor(kernel.rowProducts(left.vectors, left.length), m);
  const ofRight = mirrored(kernel.rowProducts(right.vectors, right.length), m);
  const columns = [left, right].map(({ vectors, length }) => transposed(vectors, m, length)) as [Float64Array, Float64Array];
  return parts.map(({ count, most }) => {
    // Those of the first vectors are the leading parts.
    const [factor, products] = [leading(ofLeft, count, m, count), leading(ofRight, count, m, count)];
    const { values, shares } = triplets(kernel, factor, products, most);
    const combine = (shares: Float64Array, index: 0 | 1, { length }: Stack) =>
      normalised(kernel.rowProducts(shares, count, leading(columns[index], length, m, count)), length);
    return { values, left: combine(kernel.rowProducts(shares, count, products), 0, left), right: combine(shares, 1, right) };
  });
}

/** σ, and what v takes of every right vector [k, m], up to its length: C·z. */
function triplets(kernel: MatrixKernel, factor: Float64Array, products: Float64Array, most: number) {
  const m = Math.sqrt(factor.length);
  const upper = transposed(factor, m, m);
  const core = kernel.rowProducts(kernel.rowProducts(upper, m, products), m, upper);
  const unit = magnitude(core);
  // Of values near 1, since the reduction squares them.
  const { values: squares, vectors } = largestEigenpairs(
    kernel,
    core.map((value) => value / unit ** 2),
    m,
    most,
  );
  const count = squares.filter((square) => square > NEGLIGIBLE ** 2 * (squares[0] as number)).length;
  const values = squares.subarray(0, count).map((square) => unit * Math.sqrt(square));
  return { values, shares: kernel.rowProducts(vectors.subarray(0, count * m), m, factor) };
}

/** A power of two near the root of the largest value, so that dividing by its square is exact; 1 if all are zero. */
function magnitude(squares: Float64Array): number {
  const largest = squares.reduce((found, value) => Math.max(found, Math.abs(value)), 0);
  return largest > 0 ? 2 ** Math.round(Math.log2(largest) / 2) : 1;
}

/** Relative to the largest singular value. */
const NEGLIGIBLE = 2 ** -21;

/** The first `rows` rows and `count` columns of a matrix with `columns` of them. */
function leading(matrix: Float64Array, rows: number, columns: number, count: number): Float64Array {
  if (count === columns) return matrix;
  const part = new Float64Array(rows * count);
  for (let row = 0; row < rows; row++) part.set(matrix.subarray(row * columns, row * columns + count), row * count);
  return part;
}

/** The lower half copied to the upper one. */
function mirrored(matrix: Float64Array, n: number): Float64Array {
  for (let row = 0; row < n; row++) {
    for (let column = 0; column < row; column++) matrix[column * n + row] = matrix[row * n + column] as number;
  }
  return matrix;
}

/** [columns, rows], in tiles that stay in a core's cache. */
function transposed(matrix: Float64Array, rows: number, columns: number): Float64Array {
  const result = new Float64Array(matrix.length);
  for (let top = 0; top < rows; top += TILE) {
    for (let side = 0; side < columns; side += TILE) {
      for (let row = top; row < Math.min(top + TILE, rows); row++) {
        for (let column = side; column < Math.min(side + TILE, columns); column++) {
          result[column * rows + row] = matrix[row * columns + column] as number;
        }
      }
    }
  }
  return result;
}

const TILE = 32;

/** Every row divided by its length. */
function normalised(rows: Float64Array, length: number): Float64Array {
  for (let start = 0; start < rows.length; start += length) {
    const row = rows.subarray(start, start + length);
    let square = 0;
    for (let index = 0; index < length; index++) square += (row[index] as number) ** 2;
    const norm = Math.sqrt(square);
    for (let index = 0; index < length; index++) row[index] = (row[index] as number) / norm;
  }
  return rows;
}
