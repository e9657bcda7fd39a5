import { formatPercent } from "./format.ts";
import { shownMetric } from "./metric-names.ts";

/*
 * Words on the best round. Also part of the page, so it imports nothing of the server; which round is the best is judged there alone.
 */

/** As `records/best-round.ts` has it. */
export interface BestWorded {
  readonly round: number;
  readonly value: number;
  readonly metric: string;
  readonly at: number | "area" | "worst";
}

/** As `records/best-round.ts` has it. */
export interface StopWorded {
  readonly round: number;
  readonly reason: "target" | "patience";
}

/** `round 3 (accuracy 14.5 %, area over the ranks)`. */
export function describeBest({ round, value, metric, at }: BestWorded): string {
  const { name, format } = shownMetric(metric);
  const shown = SHARES.has(metric) ? formatPercent(value) : format(value);
  const where = at === "area" ? "area over the ranks" : at === "worst" ? "worst tier" : `rank ${at}`;
  return `round ${round} (${name} ${shown}, ${where})`;
}

const SHARES: ReadonlySet<string> = new Set(["accuracy", "macro_f1", "rouge_l", "ece"]);

/** `after round 5 of 8, since the target is reached`. */
export function describeStop({ round, reason }: StopWorded, rounds: number): string {
  const why = reason === "target" ? "the target is reached" : "the metric improves no more";
  return `after round ${round} of ${rounds}, since ${why}`;
}
