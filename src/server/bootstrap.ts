import { createRng } from "../base/rng.ts";
import type { Work } from "../base/turns.ts";
import type { Interval } from "../records/metrics.ts";

/** A figure of examples, of which each counts as often as its weight says; weights add up to the examples. Null if it has no finite value. */
export interface Figure {
  readonly name: string;
  of(weights: Float64Array): number | null;
  /** A share of the examples: a mean of values that are all 0 or 1. */
  readonly isShare?: boolean;
  /**
   * Of a figure that is a sum of absolute values: the values with their signs. Chance makes such a sum too large, so the lower end of
   * its interval is the figure less the 97.5 % quantile of what the values move by, which bounds what the sum moves by.
   */
  parts?(weights: Float64Array): Float64Array;
}

export interface BootstrapOptions {
  readonly seed: string;
  readonly resamples?: number;
}

/** Additions between two yields: some milliseconds. */
const ADDITIONS_A_TURN = 4e6;

/**
 * The 95 % interval of each figure of n examples, by the percentile bootstrap (Efron and Tibshirani, An Introduction to the
 * Bootstrap, 1993, chapter 13): n examples are drawn with replacement, again and again, and of the figures so found the outer
 * 2.5 % are left out at either end. Figures of all groups are taken of the same draws, so that they can be compared.
 * A figure has none if a draw has no finite value of it, and there are none of fewer than two examples. Of a share of the examples
 * the interval is Wilson's (Journal of the American Statistical Association 22, 1927, p. 209): draws of a share near 0 or 1 vary too
 * little, and of one that is 0 or 1 not at all.
 */
export function* bootstrap(
  n: number,
  groups: readonly (readonly Figure[])[],
  { seed, resamples = 1000 }: BootstrapOptions,
): Work<readonly (readonly Interval[])[]> {
  if (n < 2) return groups.map(() => []);
  const sampled = groups.map((group) => group.map((figure) => startSample(figure, n, resamples)));
  const samples = sampled.flat();
  const rng = createRng(seed);
  const weights = new Float64Array(n);
  let additions = 0;
  for (let resample = 0; resample < resamples; resample++) {
    weights.fill(0);
    for (let draw = 0; draw < n; draw++) weights[Math.floor(rng.next() * n)]! += 1;
    for (const sample of samples) if (!sample.figure.isShare) take(sample, weights, resample);
    additions += n * (samples.length + 1);
    if (additions < ADDITIONS_A_TURN) continue;
    additions = 0;
    yield;
  }
  return sampled.map((group) => group.flatMap((sample) => intervalOf(sample, n)));
}

/** A figure, and what it becomes with each draw. */
interface Sample {
  readonly figure: Figure;
  readonly value: number | null;
  readonly parts: Float64Array | undefined;
  readonly values: Float64Array;
  readonly moves: Float64Array;
}

function startSample(figure: Figure, n: number, resamples: number): Sample {
  const once = new Float64Array(n).fill(1);
  const [values, moves] = [new Float64Array(resamples), new Float64Array(resamples)];
  return { figure, value: figure.of(once), parts: figure.parts?.(once), values, moves };
}

function take({ figure, parts, values, moves }: Sample, weights: Float64Array, resample: number): void {
  const drawn = figure.parts?.(weights);
  if (!parts || !drawn) {
    values[resample] = figure.of(weights) ?? Number.NaN;
    return;
  }
  values[resample] = sumOfSizes(drawn);
  moves[resample] = sumOfSizes(drawn.map((part, index) => part - (parts[index] as number)));
}

function intervalOf({ figure: { name, parts, isShare }, value, values, moves }: Sample, n: number): readonly Interval[] {
  if (value === null || values.some(Number.isNaN)) return [];
  if (isShare) return [{ name, ...wilson(value, n) }];
  const sorted = values.toSorted();
  const low = parts ? Math.max(0, value - quantile(moves.toSorted(), 0.975)) : quantile(sorted, 0.025);
  return [{ name, low, high: quantile(sorted, 0.975) }];
}

/** Of the normal distribution. */
const QUANTILE_975 = 1.959963984540054;

function wilson(share: number, n: number): { readonly low: number; readonly high: number } {
  const pull = QUANTILE_975 ** 2 / n;
  const middle = (share + pull / 2) / (1 + pull);
  const half = (QUANTILE_975 * Math.sqrt((share * (1 - share)) / n + pull / (4 * n))) / (1 + pull);
  // Rounding may leave a share of 0 or 1 outside.
  return { low: Math.min(share, Math.max(0, middle - half)), high: Math.max(share, Math.min(1, middle + half)) };
}

/** Σ|value| */
export function sumOfSizes(values: Float64Array): number {
  return values.reduce((sum, value) => sum + Math.abs(value), 0);
}

/** Between the two nearest of sorted values, in proportion. */
function quantile(sorted: Float64Array, share: number): number {
  const place = share * (sorted.length - 1);
  const [below, above] = [sorted[Math.floor(place)] as number, sorted[Math.ceil(place)] as number];
  return below + (place - Math.floor(place)) * (above - below);
}
