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
}

/** Mean of the differences with its 95 % interval by Student's t. */
export function confidence(differences: readonly number[]): Interval {
  const { mean, sd, n } = spread(differences);
  return { mean, half: n > 1 ? (quantile(n - 1) * sd) / Math.sqrt(n) : null };
}

/** 97.5 % quantiles of Student's t for 1 to 30 degrees of freedom (NIST/SEMATECH e-Handbook, 1.3.6.7.2). */
const QUANTILES = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11, 2.101, 2.093, 2.086,
  2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/** More than 30 degrees of freedom take the quantile of 30, which is slightly too wide. */
function quantile(degrees: number): number {
  return QUANTILES[Math.min(degrees, QUANTILES.length) - 1] as number;
}
