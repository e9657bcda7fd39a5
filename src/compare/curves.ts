import type { ComparisonResult } from "./compare.ts";
import type { Outcome } from "./outcome.ts";
import { spread } from "./statistics.ts";
import { type Measure, measureOf, outcomesAt, valueAt } from "./table.ts";

/** Mean over a method's seeds and one standard deviation to each side, in the unit of the axis: the same numbers as in the table. */
export interface CurvePoint {
  /** Rank or round. */
  readonly x: number;
  /** NaN if any seed's value is not finite. */
  readonly y: number;
  /** NaN if there is only one seed. */
  readonly low: number;
  readonly high: number;
}

export interface Curve {
  readonly method: string;
  readonly seeds: number;
  /** After the last round. */
  readonly byRank: readonly CurvePoint[];
  /** Mean over the tiers; round 0 is before training. */
  readonly byRound: readonly CurvePoint[];
}

/** A curve for every method, at equal rounds. */
export function curvesOf(result: ComparisonResult): readonly Curve[] {
  const measure = measureOf(result);
  const outcomes = outcomesAt(result, "rounds");
  return [...new Set(outcomes.map(({ method }) => method))].map((method) => {
    const own = outcomes.filter((outcome) => outcome.method === method);
    const rounds = [...new Set(own.flatMap((outcome) => outcome.rounds.map(({ round }) => round)))].toSorted((a, b) => a - b);
    return {
      method,
      seeds: own.length,
      byRank: result.tiers.map((r) =>
        point(
          r,
          own.map((outcome) => valueAt(outcome.byTier, r, measure.of)),
          measure,
        ),
      ),
      byRound: rounds.map((round) =>
        point(
          round,
          own.map((outcome) => meanAt(outcome, round, measure)),
          measure,
        ),
      ),
    };
  });
}

function point(x: number, values: readonly (number | null)[], { factor }: Measure): CurvePoint {
  const known = values.filter((value) => value !== null);
  const { mean, sd, n } = spread(known);
  if (n < values.length || n === 0) return { x, y: Number.NaN, low: Number.NaN, high: Number.NaN };
  const half = n > 1 ? sd : Number.NaN;
  return { x, y: mean * factor, low: (mean - half) * factor, high: (mean + half) * factor };
}

function meanAt({ rounds }: Outcome, round: number, { of }: Measure): number | null {
  const values = (rounds.find((entry) => entry.round === round)?.byTier ?? []).map(of);
  const known = values.filter((value) => value !== null);
  return known.length > 0 && known.length === values.length ? spread(known).mean : null;
}
