/** Seconds until all tasks are done, if each goes, in this order, to the worker that is free first. */
export function makespan(seconds: readonly number[], workers: number): number {
  const freeAt = Array.from({ length: workers }, () => 0);
  for (const duration of seconds) {
    const first = freeAt.indexOf(Math.min(...freeAt));
    freeAt[first] = (freeAt[first] ?? 0) + duration;
  }
  return Math.max(...freeAt);
}
