import { createRng } from "../base/rng.ts";
import type { Work } from "../base/turns.ts";
import type { Interval } from "../records/metrics.ts";

/** A figure of examples, of which each counts as often as its weight says. Null if it has no finite value. */
export interface Figure {
  readonly name: string;
  of(weights: Float64Array): number | null;
  /**
   * Of a figure that chance alone makes too high, as it does a mean of absolute values: a bound on how far it is from that of all
   * examples, each counted once. The interval's lower end is then lower than the figure by the 97.5 % quantile of that.
   */
  moved?(weights: Float64Array): number;
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
 * A figure has none if a draw has no finite value of it, and there are none of fewer than two examples.
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
    for (const { figure, values, moves } of samples) {
      values[resample] = figure.of(weights) ?? Number.NaN;
      if (figure.moved) moves[resample] = figure.moved(weights);
    }
    additions += n * (samples.length + 1);
    if (additions < ADDITIONS_A_TURN) continue;
    additions = 0;
    yield;
  }
  return sampled.map((group) => group.flatMap(intervalOf));
}

/** A figure, and what it becomes with each draw. */
interface Sample {
  readonly figure: Figure;
  readonly value: number | null;
  readonly values: Float64Array;
  readonly moves: Float64Array;
}

function startSample(figure: Figure, n: number, resamples: number): Sample {
  const value = figure.of(new Float64Array(n).fill(1));
  return { figure, value, values: new Float64Array(resamples), moves: new Float64Array(resamples) };
}

function intervalOf({ figure: { name, moved }, value, values, moves }: Sample): readonly Interval[] {
  if (value === null || values.some(Number.isNaN)) return [];
  const sorted = values.toSorted();
  const low = moved ? Math.max(0, value - quantile(moves.toSorted(), 0.975)) : quantile(sorted, 0.025);
  return [{ name, low, high: quantile(sorted, 0.975) }];
}

/** Between the two nearest of sorted values, in proportion. */
function quantile(sorted: Float64Array, share: number): number {
  const place = share * (sorted.length - 1);
  const [below, above] = [sorted[Math.floor(place)] as number, sorted[Math.ceil(place)] as number];
  return below + (place - Math.floor(place)) * (above - below);
}
