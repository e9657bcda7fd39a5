import { Matrix, SVD } from "ml-matrix";
import { gramSvds } from "./gram-svd.ts";
import { matrixKernel } from "./matrix-kernel.ts";
import { thinQr } from "./thin-qr.ts";

/** Singular triplets: Σ_c values[c] · left[c] · right[c]ᵀ, the largest value first; left and right of length 1. */
export interface ProductSvd {
  /** [k], none below `NEGLIGIBLE` of the first. */
  readonly values: Float64Array;
  /** [k, out], row by row. */
  readonly left: Float64Array;
  /** [k, in], row by row. */
  readonly right: Float64Array;
}

/** Vectors of one length, one after the other. */
export interface Stack {
  /** [m, length] */
  readonly vectors: Float64Array;
  /** Of each vector. */
  readonly length: number;
}

/** A sum of the first `count` products, of which the first `most` triplets are asked for. */
export interface PartialProducts {
  readonly count: number;
  readonly most: number;
}

/**
 * The first singular triplets, at most `most`, of Σ_j left[j]·right[j]ᵀ, a sum of m products of vectors of length
 * `out` and `in`. The [out, in] matrix is never formed: with left = Q_l·C_l and right = Q_r·C_r by thin QR, the sum is
 * Q_l·(C_l·C_rᵀ)·Q_rᵀ, and the SVD of the core, at most [m, m], turns the two bases into the singular vectors. Its time is
 * that of m²·(out + in) multiplications and of the core's SVD; from `MANY` vectors on, for which that would take minutes, Gram
 * matrices are used: see gram-svd.ts. Deterministic: the same vectors in the same order give the same bytes.
 *
 * Throws a RangeError if left and right have different numbers of vectors, or a value is not finite.
 */
export function productSvd(left: Stack, right: Stack, most: number): ProductSvd {
  return partialSvds(left, right, [{ count: left.vectors.length / left.length, most }])[0] as ProductSvd;
}

/** The same for sums of the first products, together in less time than one by one. */
export function partialSvds(left: Stack, right: Stack, parts: readonly PartialProducts[]): readonly ProductSvd[] {
  requirePairs(left, right);
  const count = left.vectors.length / left.length;
  const isLarge = count >= MANY && count <= Math.min(left.length, right.length);
  return isLarge && matrixKernel ? gramSvds(matrixKernel, left, right, parts) : qrSvds(left, right, parts);
}

/** Vectors of a stack. */
export const MANY = 512;

function qrSvds(left: Stack, right: Stack, parts: readonly PartialProducts[]): readonly ProductSvd[] {
  const [l, r] = [thinQr(left.vectors, left.length), thinQr(right.vectors, right.length)];
  return parts.map(({ count, most }) => {
    // Directions that a vector adds to the basis come after those of earlier ones.
    const [rows, columns] = [l.coordinates[count - 1]?.length ?? 0, r.coordinates[count - 1]?.length ?? 0];
    if (rows === 0 || columns === 0) return { values: new Float64Array(0), left: new Float64Array(0), right: new Float64Array(0) };
    const core = Array.from({ length: rows }, () => new Float64Array(columns));
    for (const [index, weights] of l.coordinates.slice(0, count).entries()) {
      for (let row = 0; row < weights.length; row++) addScaled(core[row]!, weights[row]!, r.coordinates[index]!);
    }
    const svd = new SVD(new Matrix(core), { autoTranspose: true });
    const significant = svd.diagonal.filter((value) => value > NEGLIGIBLE * svd.norm2).slice(0, most);
    return {
      values: Float64Array.from(significant),
      left: combine(svd.leftSingularVectors, significant.length, l.basis, left.length),
      right: combine(svd.rightSingularVectors, significant.length, r.basis, right.length),
    };
  });
}

/** Relative to the largest singular value; smaller ones are lost in a float32 of the product's size. */
const NEGLIGIBLE = 2 ** -24;

function requirePairs(left: Stack, right: Stack): void {
  const [m, n] = [left, right].map(({ vectors, length }) => vectors.length / length) as [number, number];
  if (m !== n || !Number.isInteger(m)) throw new RangeError(`productSvd needs as many vectors left as right, got ${m} and ${n}`);
  for (const [side, { vectors }] of Object.entries({ left, right })) {
    const index = vectors.findIndex((value) => !Number.isFinite(value));
    if (index >= 0) throw new RangeError(`productSvd needs finite values, got ${side}.vectors[${index}] = ${vectors[index]}`);
  }
}

/** Row c = Σ_i weights[i, c]·basis[i], for the first `count` columns. */
function combine(weights: Matrix, count: number, basis: Float64Array, length: number): Float64Array {
  const combined = new Float64Array(count * length);
  for (let column = 0; column < count; column++) {
    const target = combined.subarray(column * length, (column + 1) * length);
    for (let row = 0; row < weights.rows; row++)
      addScaled(target, weights.get(row, column), basis.subarray(row * length, (row + 1) * length));
  }
  return combined;
}

/** target += factor·values, which may be shorter. */
function addScaled(target: Float64Array, factor: number, values: Float64Array): void {
  for (let index = 0; index < values.length; index++) target[index] = (target[index] as number) + factor * (values[index] as number);
}
