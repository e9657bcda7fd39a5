import { formatNumber, formatPercent } from "./format.ts";

/** Unknown for the metrics of a custom task. */
export type Direction = "higher" | "lower" | undefined;

/** How tables show a metric of the list `own`. */
export interface ShownMetric {
  readonly name: string;
  readonly better: Direction;
  format(value: number | null): string;
}

/** By its name in metrics.jsonl. */
export function shownMetric(recorded: string): ShownMetric {
  return (Object.hasOwn(KNOWN, recorded) ? KNOWN[recorded] : undefined) ?? number(recorded, undefined);
}

const share = (name: string): ShownMetric => ({ name, better: "higher", format: formatPercent });
const number = (name: string, better: Direction): ShownMetric => ({ name, better, format: (value) => formatNumber(value) });

/** Those of built-in tasks. */
const KNOWN: Readonly<Record<string, ShownMetric>> = {
  token_accuracy: share("token accuracy"),
  exact_match: share("exact match"),
  f1: share("F1"),
  precision: share("precision"),
  recall: share("recall"),
  subset_accuracy: share("subset accuracy"),
  rmse: number("RMSE", "lower"),
  mae: number("MAE", "lower"),
  r2: number("R²", "higher"),
  pearson: number("Pearson’s r", "higher"),
};
