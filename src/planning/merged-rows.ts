import type { RankedClient } from "../strategy/strategy.ts";

/**
 * Merged components: those that fits send, for each those merged since the client's last fit, Σ r_k or `incrementRank` for every round
 * in between; and those that there are after each round.
 */
export function mergedRows(
  selections: readonly (readonly RankedClient[])[],
  incrementRank?: number,
): { readonly sent: number; readonly after: readonly number[] } {
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
