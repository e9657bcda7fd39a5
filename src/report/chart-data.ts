import { extent } from "./drawing.ts";
import { evaluatedRounds, majorityShare, type Quality, qualityOf, tierAt } from "./quality.ts";
import type { RecordedRun } from "../records/read-run.ts";

/** In the unit of the axis. NaN where the value was not finite: its line has a gap there. */
export interface Point {
  readonly round: number;
  readonly r: number;
  readonly value: number;
  /** Ends of the 95 % interval; NaN if there is none. */
  readonly low: number;
  readonly high: number;
  readonly examples: number;
  readonly text: string;
}

export interface Measured {
  readonly quality: Quality;
  /** Converts recorded values to the unit of the axis: shares are drawn in %. */
  readonly factor: number;
  readonly points: readonly Point[];
  /** Evaluated rounds; 0 is before training. */
  readonly rounds: readonly number[];
  readonly tiers: readonly number[];
  /** Share of the most common label. */
  readonly baseline: number | undefined;
}

export function measure({ record, clients, rounds }: RecordedRun): Measured {
  const quality = qualityOf(rounds);
  const factor = quality.isShare ? 100 : 1;
  const evaluated = evaluatedRounds(rounds);
  const { tiers } = record.layout;
  const points = evaluated.flatMap((round) =>
    tiers.map((r): Point => {
      const tier = tierAt(round, r);
      const value = tier ? quality.of(tier) : null;
      const interval = tier && quality.interval(tier);
      const scale = (share: number | null | undefined) => (share ?? Number.NaN) * factor;
      return {
        round: round.round,
        r,
        value: scale(value),
        low: scale(interval?.low),
        high: scale(interval?.high),
        examples: tier?.examples ?? 0,
        text: quality.format(value),
      };
    }),
  );
  const baseline = quality.name === "accuracy" ? majorityShare(clients) : undefined;
  return { quality, factor, points, rounds: evaluated.map(({ round }) => round), tiers, baseline };
}

export function hasInterval({ low, high }: Point): boolean {
  return Number.isFinite(low) && Number.isFinite(high);
}

export function isDrawn({ value }: Point): boolean {
  return Number.isFinite(value);
}

/** Whether a value extends the axis of the lines by at most half its length at either end. */
export function nearTo(lines: readonly Point[]): (value: number) => boolean {
  const [low, high] = extent(lines.filter(isDrawn).map(({ value }) => value)) ?? [0, 0];
  return (value) => Number.isFinite(value) && value >= low - (high - low) / 2 && value <= high + (high - low) / 2;
}

/** One value, or the smallest and the largest. */
export function describeRange(points: readonly Point[]): string {
  const drawn = points.filter(isDrawn).toSorted((a, b) => a.value - b.value);
  const [first, last] = [drawn.at(0)?.text ?? "not finite", drawn.at(-1)?.text ?? "not finite"];
  return first === last ? first : `${first} to ${last}`;
}
