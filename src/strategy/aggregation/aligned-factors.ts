import type { AdapterModule } from "../../adapter/layout.ts";
import type { ProductSvd } from "../../tensor/product-svd.ts";

/** Where a module's factors are in rows [r, width]. */
export type Place = Pick<AdapterModule, "offset" | "in" | "out"> & { readonly width: number };

/** Row c of a module ← √σ_c·v_c in A and √σ_c·u_c in B, the largest σ first; other rows are left as they are. */
export function writeFactors(rows: Float32Array, { values, left, right }: ProductSvd, place: Place, signs?: readonly number[]): void {
  const { offset, in: a, out: b, width } = place;
  for (let row = 0; row < values.length; row++) {
    const factor = Math.sqrt(values[row] as number) * (signs?.[row] ?? 1);
    const start = row * width + offset;
    for (let index = 0; index < a; index++) rows[start + index] = factor * (right[row * a + index] as number);
    for (let index = 0; index < b; index++) rows[start + a + index] = factor * (left[row * b + index] as number);
  }
}

/**
 * The same, as close to the `previous` rows [r, width] as the SVD leaves free: each triplet has the sign of the component it
 * resembles most, and triplets whose σ are equal up to rounding are in the order of the components they resemble. Rows for
 * which there is no σ keep their previous A, with B = 0: this leaves the product unchanged and can learn, unlike A = B = 0.
 */
export function writeAligned(rows: Float32Array, svd: ProductSvd, previous: Float32Array, place: Place): void {
  const { offset, in: a, out: b, width } = place;
  const alike = likenesses(svd, previous, place);
  const order = untied(svd.values, alike);
  const pick = (all: Float64Array, length: number) => {
    const picked = new Float64Array(all.length);
    for (const [to, from] of order.entries()) picked.set(all.subarray(from * length, (from + 1) * length), to * length);
    return picked;
  };
  const ordered = { values: pick(svd.values, 1), left: pick(svd.left, b), right: pick(svd.right, a) };
  const signs = order.map((from) => ((alike[from] as Likeness).isOpposite ? -1 : 1));
  writeFactors(rows, ordered, place, signs);
  for (let row = svd.values.length; row < rows.length / width; row++) {
    const start = row * width + offset;
    rows.set(previous.subarray(start, start + a), start);
    rows.fill(0, start + a, start + a + b);
  }
}

/** The previous component that a triplet resembles most. */
interface Likeness {
  readonly row: number;
  readonly isOpposite: boolean;
}

function likenesses(
  { values, left, right }: ProductSvd,
  previous: Float32Array,
  { offset, in: a, out: b, width }: Place,
): readonly Likeness[] {
  const starts = Array.from({ length: previous.length / width }, (_, row) => row * width + offset);
  const sizes = starts.map((start) => [
    Math.sqrt(dot(previous, start, previous, start, a)),
    Math.sqrt(dot(previous, start + a, previous, start + a, b)),
  ]);
  return Array.from(values, (_, c) => {
    let [best, row] = [0, 0];
    for (const [candidate, start] of starts.entries()) {
      const [sizeOfA = 0, sizeOfB = 0] = sizes[candidate] ?? [];
      const cosine = (product: number, size: number) => (size > 0 ? product / size : 0);
      const score = cosine(dot(right, c * a, previous, start, a), sizeOfA) + cosine(dot(left, c * b, previous, start + a, b), sizeOfB);
      if (Math.abs(score) > Math.abs(best)) [best, row] = [score, candidate];
    }
    return { row, isOpposite: best < 0 };
  });
}

/** Singular values that differ by less than this share count as equal: a float32 adapter does not tell them apart. */
const TIE = 2 ** -20;

/** The order of the triplets: descending σ, and among equal ones the order of the components they resemble. */
function untied(values: Float64Array, alike: readonly Likeness[]): readonly number[] {
  let tie = 0;
  const ties = Array.from(values, (value, c) => {
    if (value < (values[tie] as number) * (1 - TIE)) tie = c;
    return tie;
  });
  const indices = Array.from(values, (_, c) => c);
  return indices.toSorted((x, y) => (ties[x] as number) - (ties[y] as number) || (alike[x] as Likeness).row - (alike[y] as Likeness).row);
}

type Values = Float32Array | Float64Array;

function dot(x: Values, xAt: number, y: Values, yAt: number, length: number): number {
  let sum = 0;
  for (let index = 0; index < length; index++) sum += (x[xAt + index] as number) * (y[yAt + index] as number);
  return sum;
}
