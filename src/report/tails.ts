/* With many clients, tables and pictures show only those at both ends of an order. */

/** The indices of the `count` largest values, the largest first, and of the `count` smallest, the smallest last; earlier clients first. */
export function tails(values: ArrayLike<number>, count: number): readonly number[] {
  const at = (index: number) => values[index] as number;
  const largest = firstBy(values.length, count, (a, b) => at(b) - at(a) || a - b);
  const smallest = firstBy(values.length, count, (a, b) => at(a) - at(b) || b - a);
  return [...largest, ...smallest.toReversed()];
}

/** The first `count` of the indices below `n` in this order, in one pass: sorting a million would take seconds. */
function firstBy(n: number, count: number, compare: (a: number, b: number) => number): readonly number[] {
  const first: number[] = [];
  for (let index = 0; index < n; index++) {
    const last = first.at(-1);
    if (first.length === count && last !== undefined && compare(index, last) > 0) continue;
    const place = first.findIndex((other) => compare(index, other) < 0);
    first.splice(place < 0 ? first.length : place, 0, index);
    if (first.length > count) first.pop();
  }
  return first;
}

/** The lower median. */
export function median(values: Iterable<number>): number {
  const sorted = Float64Array.from(values).toSorted();
  return sorted[Math.ceil(sorted.length / 2) - 1] ?? 0;
}

export function total(values: Iterable<number>): number {
  let sum = 0;
  for (const value of values) sum += value;
  return sum;
}
