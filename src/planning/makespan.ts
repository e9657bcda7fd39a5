/** Seconds until tasks, given in this order to whichever worker is free first, are all done. */
export function makespan(seconds: readonly number[], workers: number): number {
  const freeAt = Array.from({ length: workers }, () => 0);
  for (const duration of seconds) {
    const first = freeAt.indexOf(Math.min(...freeAt));
    freeAt[first] = (freeAt[first] ?? 0) + duration;
  }
  return Math.max(...freeAt);
}
