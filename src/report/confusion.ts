import type { Confusion, RoundMetrics } from "../records/metrics.ts";
import type { RecordedRun } from "../records/read-run.ts";
import { formatCount, formatPercent } from "./format.ts";
import type { Table } from "./tables.ts";

/** The confusion matrices of the last round that has any, the largest tier first. */
export function lastConfusions(
  rounds: readonly RoundMetrics[],
): { readonly round: number; readonly tiers: readonly Confusion[] } | undefined {
  const last = rounds.findLast(({ confusion = [] }) => confusion.length > 0);
  return last && { round: last.round, tiers: (last.confusion ?? []).toSorted((a, b) => b.r - a.r) };
}

/** A label's name; its number where the record does not name it. */
export function labelName(labels: readonly string[], label: number): string {
  return labels[label] ?? `label ${label}`;
}

/** The number of examples of each label among the cells. */
export function examplesByLabel(cells: Confusion["cells"]): ReadonlyMap<number, number> {
  const totals = new Map<number, number>();
  for (const [actual, , examples] of cells) totals.set(actual, (totals.get(actual) ?? 0) + examples);
  return totals;
}

const SHOWN = 10;

/** The pairs of labels that the largest tier takes for one another most often. None without labels, or without a mistake. */
export function confusionTables({ record, rounds }: Pick<RecordedRun, "record" | "rounds">): readonly Table[] {
  const found = lastConfusions(rounds);
  const [largest] = found?.tiers ?? [];
  if (!found || !largest) return [];
  const totals = examplesByLabel(largest.cells);
  const worst = largest.cells
    .filter(([actual, predicted]) => actual !== predicted)
    .toSorted((a, b) => b[2] - a[2])
    .slice(0, SHOWN);
  if (worst.length === 0) return [];
  return [
    {
      title: `Most confused labels at rank ${largest.r}, ${found.round === 0 ? "before training" : `after round ${found.round}`}`,
      columns: ["label", "taken for", "examples", "of the label’s"],
      rows: worst.map(([actual, predicted, examples]) => [
        labelName(record.labels, actual),
        labelName(record.labels, predicted),
        formatCount(examples),
        formatPercent(examples / (totals.get(actual) ?? examples)),
      ]),
      prose: [1],
    },
  ];
}
