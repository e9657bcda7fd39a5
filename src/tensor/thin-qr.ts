/** m vectors of length d in an orthonormal basis of k ≤ m: vector j = Σ_i coordinates[j][i] · basis[i]. */
export interface ThinQr {
  /** [k, d], row by row. */
  readonly basis: Float64Array;
  /** For each vector in turn; as long as the basis was then, since later directions do not contribute to it. */
  readonly coordinates: readonly Float64Array[];
}

/**
 * An orthonormal basis of `vectors` [m, d], row by row, and their coordinates in it. Gram–Schmidt, every vector twice,
 * which is enough for orthogonality up to rounding (Giraud et al., https://doi.org/10.1007/s00211-005-0615-4). A vector
 * that earlier ones span adds nothing to the basis, so k < m if the vectors are linearly dependent.
 */
export function thinQr(vectors: Float64Array, length: number): ThinQr {
  const count = vectors.length / length;
  const most = Math.min(count, length);
  const basis = new Float64Array(roundUp(most) * length);
  const coordinates: Float64Array[] = [];
  let rank = 0;
  for (let index = 0; index < count; index++) {
    const rest = vectors.slice(index * length, (index + 1) * length);
    const whole = norm(rest);
    const shares = takeOut(basis, rank, rest);
    const again = takeOut(basis, rank, rest);
    const left = norm(rest);
    const own = shares.map((share, index) => share + (again[index] as number)).subarray(0, rank);
    const isNew = rank < most && left > VANISHING * whole;
    coordinates.push(isNew ? Float64Array.of(...own, left) : own);
    if (isNew)
      basis.set(
        rest.map((value) => value / left),
        rank++ * length,
      );
  }
  return { basis: basis.subarray(0, rank * length), coordinates };
}

/** A remainder of a vector below this share of its length is rounding error, not a new direction. */
const VANISHING = 2 ** -40;

/**
 * rest −= Σ_i share_i·q_i with share_i = q_i·rest, over the first `rank` rows q of `basis`; returns the shares. Four
 * rows at a time, so that `rest` is read once for four. The rows after `rank` are zero, and so are their shares.
 */
function takeOut(basis: Float64Array, rank: number, rest: Float64Array): Float64Array {
  const length = rest.length;
  const shares = new Float64Array(roundUp(rank));
  for (let row = 0; row < rank; row += 4) {
    const one = row * length;
    const [two, three, four] = [one + length, one + 2 * length, one + 3 * length];
    let [first, second, third, fourth] = [0, 0, 0, 0];
    for (let index = 0; index < length; index++) {
      const value = rest[index] as number;
      first += value * (basis[one + index] as number);
      second += value * (basis[two + index] as number);
      third += value * (basis[three + index] as number);
      fourth += value * (basis[four + index] as number);
    }
    shares.set([first, second, third, fourth], row);
  }
  for (let row = 0; row < rank; row += 4) {
    const one = row * length;
    const [two, three, four] = [one + length, one + 2 * length, one + 3 * length];
    const [first = 0, second = 0, third = 0, fourth = 0] = shares.subarray(row, row + 4);
    for (let index = 0; index < length; index++) {
      const sum =
        first * (basis[one + index] as number) +
        second * (basis[two + index] as number) +
        third * (basis[three + index] as number) +
        fourth * (basis[four + index] as number);
      rest[index] = (rest[index] as number) - sum;
    }
  }
  return shares;
}

function norm(vector: Float64Array): number {
  let sum = 0;
  for (let index = 0; index < vector.length; index++) sum += (vector[index] as number) ** 2;
  return Math.sqrt(sum);
}

/** Rounds up to a multiple of four. */
function roundUp(count: number): number {
  return 4 * Math.ceil(count / 4);
}
