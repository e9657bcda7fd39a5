import type { Selection } from "prelort";

/** Each round, the `count` clients that reported longest ago, those that never did first. */
export function longestAgo({ count }: { readonly count: number }): Selection {
  return ({ clients, history }) => {
    const lastRound = (id: string) => history.get(id)?.round ?? 0;
    const waiting = clients.toSorted((a, b) => lastRound(a.id) - lastRound(b.id));
    return waiting.slice(0, count).map(({ id }) => id);
  };
}
