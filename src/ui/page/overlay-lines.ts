import type { OverlayRun } from "../messages.ts";
import type { ChartData, Line } from "./chart-options.ts";
import { runColor } from "./colors.ts";
import { better } from "./words.ts";

export interface RunLine extends Line {
  readonly rounds: readonly number[];
}

/** Its best or worst tier in each round, one tier, or all. */
export function linesOf({ name, measure, tiers, rounds, values }: OverlayRun, tier: string, index: number): readonly RunLine[] {
  const color = runColor(index);
  if (tier === "all") {
    return tiers.map((r, of) => ({
      name: `${name}, rank ${r}`,
      color: `color-mix(in oklab, ${color} ${Math.round(35 + (65 * (of + 1)) / tiers.length)}%, var(--panel))`,
      values: values[of] ?? [],
      rounds,
    }));
  }
  if (tier !== "best" && tier !== "worst") {
    const of = tiers.indexOf(Number(tier));
    return of < 0 ? [] : [{ name, color, values: values[of] ?? [], rounds }];
  }
  const takesHighest = (tier === "best") === (better(measure) === "higher");
  const line = rounds.map((_, at) => {
    const found = values.flatMap((column) => column[at] ?? []);
    return found.length === 0 ? null : takesHighest ? Math.max(...found) : Math.min(...found);
  });
  return [{ name, color, values: line, rounds }];
}

/** On one x axis of all rounds; a line has nulls where it has no value. */
export function aligned(lines: readonly RunLine[]): ChartData {
  const x = [...new Set(lines.flatMap(({ rounds }) => rounds))].toSorted((a, b) => a - b);
  const place = new Map(x.map((round, index) => [round, index]));
  return {
    x,
    lines: lines.map(({ rounds, ...line }) => {
      const values: (number | null)[] = x.map(() => null);
      for (const [index, round] of rounds.entries()) values[place.get(round) as number] = line.values[index] ?? null;
      return { ...line, values };
    }),
  };
}
