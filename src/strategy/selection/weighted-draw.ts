import type { Rng } from "../../base/rng.ts";

/** Draws `count` different items one after the other, in proportion to the weights (above 0) of the remaining items. */
export function drawByWeight<T>(items: readonly T[], weightOf: (item: T) => number, count: number, rng: Rng): T[] {
  const left = items.map((item) => ({ item, weight: weightOf(item) }));
  const drawn: T[] = [];
  while (drawn.length < count && left.length > 0) {
    let rest = rng.next() * left.reduce((sum, { weight }) => sum + weight, 0);
    const index = left.findIndex(({ weight }) => (rest -= weight) < 0);
    // Rounding may leave `rest` at 0 or above after the last item.
    drawn.push(...left.splice(index === -1 ? left.length - 1 : index, 1).map(({ item }) => item));
  }
  return drawn;
}
