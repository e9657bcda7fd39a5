import { expect, test } from "vitest";
import { randomSelection } from "../../../../src/strategy/selection/random.ts";
import type { RankedClient } from "../../../../src/strategy/strategy.ts";
import { createRng, deriveSeed } from "../../../../src/tensor/rng.ts";

test.each([
  [0.3, 10, 3],
  [0.25, 10, 3],
  [0.01, 10, 1],
  [1, 10, 10],
])("a fraction of %d of %d clients is %d", async (fraction, count, expected) => {
  const clients = Array.from({ length: count }, (_, index): RankedClient => ({ id: `c${index}`, index, size: 1, r: 1, labelCounts: [] }));
  const context = { round: 1, clients, tiers: [1], rng: (purpose: string) => createRng(deriveSeed(0, purpose)) };
  expect(await randomSelection({ fraction })(context)).toHaveLength(expected);
});
