import type { RoundMetrics } from "../records/metrics.ts";
import { compareSamples, firstAndLast } from "./sample-answers.ts";
import type { Table } from "./tables.ts";

/** A table for each sample: the reference, and the answer of every tier before training and after the last generation. */
export function samplesTables(rounds: readonly RoundMetrics[]): readonly Table[] {
  const { before, after } = firstAndLast(rounds);
  return compareSamples({ before, after }).map(({ prompt, reference, answers }, index) => ({
    title: `Sample ${index + 1}: ${prompt}`,
    columns: ["rank", "before", after ? `after round ${after.round}` : "after"],
    rows: [
      ["reference", before ? reference : "", after ? reference : ""],
      ...answers.map((answer) => [String(answer.r), answer.before ?? "", answer.after ?? ""]),
    ],
    prose: [1, 2],
  }));
}
