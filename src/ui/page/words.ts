import { formatNumber, formatPercent, NOTHING } from "../../report/format.ts";
import type { Estimate, ListedState, MeasureName, RunSummary } from "../messages.ts";

/* Words and figures that several parts of the page share. */

export const STATES: Readonly<Record<ListedState, string>> = {
  running: "running",
  ended: "done",
  failed: "failed",
  interrupted: "interrupted",
  killed: "killed",
  damaged: "damaged",
  "no run": "no run",
};

export function formatQuality(measure: MeasureName, value: number | null | undefined): string {
  if (value === null || value === undefined) return NOTHING;
  return isShare(measure) ? formatPercent(value) : formatNumber(value, measure === "perplexity" ? 2 : 3);
}

/** `71.5 % (65.6–76.7)`. */
export function formatEstimate(measure: MeasureName, [value, low, high]: Estimate): string {
  const shown = formatQuality(measure, value);
  if (low === null || high === null) return shown;
  const end = (share: number) => (100 * share).toFixed(1);
  return `${shown} (${end(low)}–${end(high)})`;
}

/** `process 123 on host`. */
export function describeHolder(summary: RunSummary): string {
  const { holder } = summary;
  return holder ? `process ${holder.pid} on ${holder.host}` : NOTHING;
}

/** `#/run/NAME`. */
export function runAddress(name: string): string {
  return `#/run/${encodeURIComponent(name)}`;
}

export function better(measure: MeasureName): "higher" | "lower" {
  return isShare(measure) ? "higher" : "lower";
}

/** From 0 to 1, shown in %. */
export function isShare(measure: MeasureName): boolean {
  return measure === "accuracy" || measure === "F1";
}
