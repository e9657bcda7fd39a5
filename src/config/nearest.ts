/** The candidate most similar to `word`, if at most a third of the word differs (at least one letter may). */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

/** The fewest insertions, deletions, substitutions and swaps of neighbours that turn one word into another, row by row. */
function editDistance(from: string, to: string): number {
  let beforeLast: readonly number[] = [];
  let last: readonly number[] = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (let i = 1; i <= from.length; i++) {
    const row = [i];
    for (let j = 1; j <= to.length; j++) {
      const isSwapped = i > 1 && j > 1 && from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1];
      const choices = [
        (last[j - 1] ?? 0) + (from[i - 1] === to[j - 1] ? 0 : 1),
        (last[j] ?? 0) + 1,
        (row[j - 1] ?? 0) + 1,
        ...(isSwapped ? [(beforeLast[j - 2] ?? 0) + 1] : []),
      ];
      row.push(Math.min(...choices));
    }
    [beforeLast, last] = [last, row];
  }
  return last[to.length] ?? 0;
}
