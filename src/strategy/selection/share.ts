import type { Client } from "../strategy.ts";

/** The number of clients in a fraction of n: the nearest whole number, at least one. */
export function shareOf(fraction: number, n: number): number {
  return Math.max(1, Math.round(fraction * n));
}

/** Ids of the clients that were chosen, in the order of all clients. */
export function idsOf(chosen: readonly Pick<Client, "id" | "index">[]): readonly string[] {
  return chosen.toSorted((a, b) => a.index - b.index).map(({ id }) => id);
}
