import type { Rng } from "../../base/rng.ts";

/** Draws `count` different items one after the other, in proportion to the weights (above 0) of the remaining items. */
export function drawByWeight<T>(items: readonly T[], weightOf: (item: T) => number, count: number, rng: Rng): T[] {
  const weights = Float64Array.from(items, weightOf);
  const remaining = isExact(weights) ? countsByPrefix(weights) : scanned(weights);
  return Array.from({ length: Math.min(count, items.length) }, () => {
    const index = remaining.find(rng.next() * remaining.total());
    remaining.remove(index);
    return items[index] as T;
  });
}

/** The weights of the items that have not been drawn. */
interface Remaining {
  total(): number;
  /** The first item at which the sum of the weights so far exceeds this value. */
  find(value: number): number;
  remove(index: number): void;
}

/** Whether every sum of these weights is exact, so that it does not depend on the order of its terms. */
function isExact(weights: Float64Array): boolean {
  return weights.every(Number.isInteger) && weights.reduce((sum, weight) => sum + weight, 0) <= Number.MAX_SAFE_INTEGER;
}

/** A Fenwick tree: a draw from a million items takes twenty steps. */
function countsByPrefix(weights: Float64Array): Remaining {
  const n = weights.length;
  /** At node i, the sum of the weights from i − (i & −i) to i − 1. */
  const sums = new Float64Array(n + 1);
  let all = 0;
  for (let node = 1; node <= n; node++) {
    const weight = weights[node - 1] as number;
    all += weight;
    sums[node] = (sums[node] as number) + weight;
    const parent = node + (node & -node);
    if (parent <= n) sums[parent] = (sums[parent] as number) + (sums[node] as number);
  }
  const top = 2 ** Math.floor(Math.log2(Math.max(1, n)));
  return {
    total: () => all,
    find(value) {
      let [node, rest] = [0, value];
      for (let step = top; step >= 1; step /= 2) {
        const sum = sums[node + step];
        if (sum === undefined || sum > rest) continue;
        node += step;
        rest -= sum;
      }
      return node;
    },
    remove(index) {
      const weight = weights[index] as number;
      all -= weight;
      for (let node = index + 1; node <= n; node += node & -node) sums[node] = (sums[node] as number) - weight;
    },
  };
}

/** Adds fractions in the order of the items, since their rounded sums depend on it. */
function scanned(weights: Float64Array): Remaining {
  const isDrawn = new Uint8Array(weights.length);
  return {
    total: () => weights.reduce((sum, weight) => sum + weight, 0),
    find(value) {
      let rest = value;
      const index = weights.findIndex((weight) => (rest -= weight) < 0);
      // Rounding may leave `rest` at 0 or above after the last item.
      return index >= 0 ? index : isDrawn.lastIndexOf(0);
    },
    remove(index) {
      weights[index] = 0;
      isDrawn[index] = 1;
    },
  };
}
