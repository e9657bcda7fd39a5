/** The number of clients in a fraction of n: the nearest whole number, at least one. */
export function shareOf(fraction: number, n: number): number {
  return Math.max(1, Math.round(fraction * n));
}

/** Ids of the clients that were chosen, in the order of all clients. */
export function idsOf<C extends { readonly id: string }>(clients: readonly C[], chosen: readonly C[]): readonly string[] {
  const set = new Set(chosen);
  return clients.filter((client) => set.has(client)).map(({ id }) => id);
}
