/* Counts and times, as they go into the result. */

export function tally(names: readonly string[]): Readonly<Record<string, number>> {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return Object.fromEntries([...counts].toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

export function summarise(latencies: ReadonlyMap<string, readonly number[]>) {
  return Object.fromEntries(
    [...latencies].map(([name, found]) => {
      const sorted = found.toSorted((a, b) => a - b);
      return [name, { seen: sorted.length, p50: sorted[Math.floor(sorted.length / 2)], most: sorted.at(-1) }];
    }),
  );
}
