import { createRng, deriveSeed } from "../base/rng.ts";
import type { MatrixKernel, Tridiagonal } from "./matrix-kernel.ts";

/** The largest eigenvalues, in descending order, and their orthonormal vectors [k, n], row by row. */
export interface Eigenpairs {
  readonly values: Float64Array;
  readonly vectors: Float64Array;
}

/**
 * The `most` largest eigenvalues of a symmetric matrix [n, n], of which the lower half is read, and their vectors: by reduction
 * to a tridiagonal matrix, bisection (Sturm sequences) and inverse iteration (Golub and Van Loan, Matrix Computations, 8.3 to
 * 8.4). Each vector is made orthogonal to those before it, so that equal eigenvalues have different vectors.
 */
export function largestEigenpairs(kernel: MatrixKernel, matrix: Float64Array, n: number, most: number): Eigenpairs {
  const tridiagonal = kernel.tridiagonalise(matrix, n);
  const { diagonal, beside } = tridiagonal;
  const size = diagonal.reduce(
    (found, value, i) => Math.max(found, Math.abs(value) + Math.abs(beside[i] ?? 0) + Math.abs(beside[i + 1] ?? 0)),
    0,
  );
  const count = Math.min(most, n);
  const values = new Float64Array(count);
  for (let index = 0; index < count; index++) values[index] = bisect(tridiagonal, index, -size, values[index - 1] ?? size, size);
  const vectors = inverseIteration(tridiagonal, values, size);
  for (let index = 0; index < count; index++) reflect(tridiagonal, vectors.subarray(index * n, (index + 1) * n));
  return { values, vectors };
}

const EPSILON = 2 ** -52;

/** The eigenvalue that `above` others exceed, between two bounds. */
function bisect({ diagonal, beside }: Tridiagonal, above: number, from: number, to: number, size: number): number {
  let [low, high] = [from, to];
  while (high - low > 2 * EPSILON * Math.max(Math.abs(low), Math.abs(high)) + EPSILON * EPSILON * size) {
    const middle = low + (high - low) / 2;
    if (middle === low || middle === high) break;
    if (countAbove(diagonal, beside, middle, size) > above) low = middle;
    else high = middle;
  }
  return low + (high - low) / 2;
}

/** The number of eigenvalues above a value: the positive pivots of T − value·I. */
function countAbove(diagonal: Float64Array, beside: Float64Array, value: number, size: number): number {
  const least = EPSILON * EPSILON * size;
  let [pivot, count] = [1, 0];
  for (let i = 0; i < diagonal.length; i++) {
    const left = i > 0 ? (beside[i] as number) : 0;
    pivot = (diagonal[i] as number) - value - (left * left) / pivot;
    if (Math.abs(pivot) < least || Number.isNaN(pivot)) pivot = -least;
    if (pivot > 0) count++;
  }
  return count;
}

/** Steps of inverse iteration; each gains as many digits as the eigenvalue is known to. */
const STEPS = 3;

function inverseIteration(tridiagonal: Tridiagonal, values: Float64Array, size: number): Float64Array {
  const n = tridiagonal.diagonal.length;
  const rng = createRng(deriveSeed("inverse iteration"));
  const vectors = new Float64Array(values.length * n);
  let shift = Infinity;
  for (let index = 0; index < values.length; index++) {
    const vector = vectors.subarray(index * n, (index + 1) * n);
    for (let i = 0; i < n; i++) vector[i] = rng.next() - 0.5;
    // Equal eigenvalues are told apart, so that their systems differ.
    shift = Math.min(values[index] as number, shift - 10 * EPSILON * size);
    const solve = factorShifted(tridiagonal, shift, size);
    for (let step = 0; step < STEPS; step++) {
      solve(vector);
      normalise(vector);
      for (let pass = 0; pass < 2; pass++) {
        for (let earlier = 0; earlier < index; earlier++) {
          const other = vectors.subarray(earlier * n, (earlier + 1) * n);
          addScaled(vector, -dot(vector, other), other);
        }
      }
      normalise(vector);
    }
  }
  return vectors;
}

/** Solves (T − shift·I)·x = b in place, by Gaussian elimination with exchanges of neighbouring rows. */
function factorShifted({ diagonal, beside }: Tridiagonal, shift: number, size: number): (b: Float64Array) => void {
  const n = diagonal.length;
  // Row i of the upper factor: three values; below it, the multiplier and whether rows i and i + 1 were exchanged.
  const [first, second, third, multiplier] = [0, 1, 2, 3].map(() => new Float64Array(n)) as [
    Float64Array,
    Float64Array,
    Float64Array,
    Float64Array,
  ];
  const isExchanged = new Uint8Array(n);
  const least = EPSILON * size || 1;
  let [own, right] = [(diagonal[0] as number) - shift, beside[1] ?? 0];
  for (let i = 0; i < n - 1; i++) {
    const [below, next, after] = [beside[i + 1] as number, (diagonal[i + 1] as number) - shift, beside[i + 2] ?? 0];
    if (Math.abs(below) > Math.abs(own)) {
      isExchanged[i] = 1;
      [first[i], second[i], third[i]] = [below, next, after];
      const factor = own / below;
      multiplier[i] = factor;
      [own, right] = [right - factor * next, -factor * after];
    } else {
      if (own === 0) own = least;
      [first[i], second[i], third[i]] = [own, right, 0];
      const factor = below / own;
      multiplier[i] = factor;
      [own, right] = [next - factor * right, after];
    }
  }
  first[n - 1] = Math.abs(own) < least ? least : own;
  return (b) => {
    for (let i = 0; i < n - 1; i++) {
      const [x, y] = [b[i] as number, b[i + 1] as number];
      const factor = multiplier[i] as number;
      if (isExchanged[i]) [b[i], b[i + 1]] = [y, x - factor * y];
      else b[i + 1] = y - factor * x;
    }
    for (let i = n - 1; i >= 0; i--) {
      const rest = (second[i] as number) * (b[i + 1] ?? 0) + (third[i] as number) * (b[i + 2] ?? 0);
      b[i] = ((b[i] as number) - rest) / (first[i] as number);
    }
  };
}

/** vector ← Q·vector */
function reflect({ reflections, halves }: Tridiagonal, vector: Float64Array): void {
  const n = halves.length;
  for (let i = 1; i < n; i++) {
    const half = halves[i] as number;
    if (half === 0) continue;
    const v = reflections.subarray(i * n, i * n + i);
    addScaled(vector, -dot(vector, v) / half, v);
  }
}

function normalise(vector: Float64Array): void {
  // By the largest value first, so that no square overflows.
  const largest = vector.reduce((found, value) => Math.max(found, Math.abs(value)), 0);
  for (let i = 0; i < vector.length; i++) vector[i] = (vector[i] as number) / largest;
  const norm = Math.sqrt(dot(vector, vector));
  for (let i = 0; i < vector.length; i++) vector[i] = (vector[i] as number) / norm;
}

/** Over the length of `y`, which may be shorter. */
function dot(x: Float64Array, y: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < y.length; i++) sum += (x[i] as number) * (y[i] as number);
  return sum;
}

function addScaled(target: Float64Array, factor: number, values: Float64Array): void {
  for (let i = 0; i < values.length; i++) target[i] = (target[i] as number) + factor * (values[i] as number);
}
