import { mergesIntoBase } from "../config/policy-rules.ts";
import type { RunConfig } from "../config/schema.ts";
import type { RankedClient } from "../strategy/strategy.ts";

/**
 * Merged components: those that fits send, for each those merged since the client's last fit, Σ r_k or `incrementRank` for every round
 * in between; and those that there are after each round, none if the aggregation merges nothing.
 */
export function mergedRows(
  { aggregation }: RunConfig["strategy"],
  selections: readonly (readonly RankedClient[])[],
): { readonly sent: number; readonly after: readonly number[] } {
  if (!mergesIntoBase(aggregation)) return { sent: 0, after: [] };
  const incrementRank = aggregation.policy?.["incrementRank"] as number | undefined;
  const last = new Map<string, number>();
  let [merged, sent] = [0, 0];
  const after = selections.map((selected) => {
    for (const { id } of selected) {
      sent += merged - (last.get(id) ?? 0);
      last.set(id, merged);
    }
    const all = selected.reduce((sum, { r }) => sum + r, 0);
    return (merged += selected.length > 0 ? (incrementRank ?? all) : 0);
  });
  return { sent, after };
}
