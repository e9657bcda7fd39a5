import * as fc from "fast-check";
import { expect, test } from "vitest";
import type { Rng } from "../../../../src/base/rng.ts";
import { drawByWeight } from "../../../../src/strategy/selection/weighted-draw.ts";
import { seededRng } from "../../../../src/testing/index.ts";

/** The definition: draws from a list, and removes what was drawn. */
function drawOneByOne(weights: readonly number[], count: number, rng: Rng): number[] {
  const left = weights.map((weight, item) => ({ item, weight }));
  const drawn: number[] = [];
  while (drawn.length < count && left.length > 0) {
    let rest = rng.next() * left.reduce((sum, { weight }) => sum + weight, 0);
    const index = left.findIndex(({ weight }) => (rest -= weight) < 0);
    drawn.push(...left.splice(index === -1 ? left.length - 1 : index, 1).map(({ item }) => item));
  }
  return drawn;
}

const counts = fc.array(fc.oneof(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 2 ** 40 })), { maxLength: 40 });
const fractions = fc.array(fc.double({ min: 1e-9, max: 1e9, noNaN: true }), { maxLength: 40 });

test.each([
  ["counts", counts],
  ["fractions", fractions],
])("items weighted by %s are drawn exactly as one by one from a list", (_, weightsOf) => {
  const cases = fc.property(weightsOf, fc.integer({ min: 0, max: 50 }), fc.nat(), (weights, count, seed) => {
    const items = [...weights.keys()];
    const drawn = drawByWeight(items, (item) => weights[item] as number, count, seededRng(seed));
    expect(drawn).toEqual(drawOneByOne(weights, count, seededRng(seed)));
  });
  fc.assert(cases);
});

test("a thousand of 300,000 items are drawn, each once and the heavy ones first of all", () => {
  const items = Array.from({ length: 300_000 }, (_, index) => index);
  const drawn = drawByWeight(items, (item) => (item % 100_000 === 7 ? 1e12 : 1), 1000, seededRng());
  expect(new Set(drawn).size).toBe(1000);
  expect(drawn.slice(0, 3).toSorted((a, b) => a - b)).toEqual([7, 100_007, 200_007]);
});
