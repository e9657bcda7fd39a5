import type { RoundMetrics } from "../records/metrics.ts";
import type { Table } from "./tables.ts";

/** A table for each sample: the reference, and the answer of every tier before training and after the last generation. */
export function samplesTables(rounds: readonly RoundMetrics[]): readonly Table[] {
  const told = rounds.filter(({ samples = [] }) => samples.length > 0);
  const before = told.find(({ round }) => round === 0);
  const after = told.findLast(({ round }) => round > 0);
  return ((after ?? before)?.samples ?? []).map(({ prompt, reference, answers }, index) => {
    const answerIn = (round: RoundMetrics | undefined, r: number) =>
      round?.samples?.[index]?.answers.find((answer) => answer.r === r)?.text ?? "";
    return {
      title: `Sample ${index + 1}: ${prompt}`,
      columns: ["rank", "before", after ? `after round ${after.round}` : "after"],
      rows: [
        ["reference", before ? reference : "", after ? reference : ""],
        ...answers.map(({ r }) => [String(r), answerIn(before, r), answerIn(after, r)]),
      ],
      prose: [1, 2],
    };
  });
}
