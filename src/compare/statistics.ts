/** Statistics of a few values, such as one for each seed. */
export interface Spread {
  readonly mean: number;
  /** Sample standard deviation, with n − 1; 0 for a single value. */
  readonly sd: number;
  readonly n: number;
}

export function spread(values: readonly number[]): Spread {
  const n = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, sd: n > 1 ? Math.sqrt(squares / (n - 1)) : 0, n };
}

export interface Interval {
  readonly mean: number;
  /** Half the width of the 95 % interval; null for a single value. */
  readonly half: number | null;
  /** Of Student's t-test against 0, two-sided; null for a single value. */
  readonly p: number | null;
}

/** Mean of the differences with its 95 % interval by Student's t. */
export function confidence(differences: readonly number[]): Interval {
  const { mean, sd, n } = spread(differences);
  if (n < 2) return { mean, half: null, p: null };
  const error = sd / Math.sqrt(n);
  return { mean, half: quantile(n - 1) * error, p: mean === 0 ? 1 : 1 - within(Math.abs(mean) / error, n - 1) };
}

/**
 * Which hypotheses are rejected at the level α = 0.05 of them all together (Holm 1979): from the smallest p on, as long as
 * p ≤ α / (number of those left). Those without a p are not counted.
 */
export function holm(ps: readonly (number | null)[]): readonly boolean[] {
  const order = [...ps.keys()].filter((index) => ps[index] !== null).toSorted((a, b) => (ps[a] as number) - (ps[b] as number));
  const first = order.findIndex((index, place) => (ps[index] as number) > 0.05 / (order.length - place));
  const rejected = new Set(order.slice(0, first === -1 ? order.length : first));
  return ps.map((_, index) => rejected.has(index));
}

/** P(|T| ≤ t) of Student's t with a whole number of degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4). */
function within(t: number, degrees: number): number {
  const angle = Math.atan(t / Math.sqrt(degrees));
  const [sine, cosine] = [Math.sin(angle), Math.cos(angle)];
  const isOdd = degrees % 2 === 1;
  let [term, sum] = isOdd ? [sine * cosine, angle] : [sine, 0];
  for (let k = isOdd ? 3 : 2; k <= degrees; k += 2) {
    sum += term;
    term *= ((k - 1) / k) * cosine ** 2;
  }
  return isOdd ? (2 / Math.PI) * sum : sum;
}

/** 97.5 % quantile of Student's t, by bisection. */
function quantile(degrees: number): number {
  let [low, high] = [0, 16];
  while (high - low > 1e-9) {
    const middle = (low + high) / 2;
    if (within(middle, degrees) < 0.95) low = middle;
    else high = middle;
  }
  return high;
}
