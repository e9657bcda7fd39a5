import { expect, test } from "vitest";
import { stratifiedSelection } from "../../../../src/strategy/selection/stratified.ts";
import type { RankedClient } from "../../../../src/strategy/strategy.ts";
import { createRng, deriveSeed } from "../../../../src/tensor/rng.ts";

test.each([
  ["its share of each tier", 0.5, { 16: 2, 4: 4, 1: 6 }, { 16: 1, 4: 2, 1: 3 }],
  ["at least one of each tier", 0.1, { 16: 1, 4: 2, 1: 3 }, { 16: 1, 4: 1, 1: 1 }],
  ["what is over to the largest remainders", 0.3, { 16: 4, 4: 4, 1: 9 }, { 16: 1, 4: 1, 1: 3 }],
  ["nothing of a tier without clients", 0.5, { 16: 0, 4: 2, 1: 2 }, { 16: 0, 4: 1, 1: 1 }],
])("takes %s", async (_, fraction, held, expected) => {
  const ranks = Object.entries(held).flatMap(([r, count]) => Array<number>(count).fill(Number(r)));
  const clients = ranks.map((r, index): RankedClient => ({ id: `c${index}`, index, size: 1, r, labelCounts: [] }));
  for (let round = 1; round <= 20; round++) {
    const rng = (purpose: string) => createRng(deriveSeed(0, round, purpose));
    const ids = await stratifiedSelection({ fraction })({ round, clients, tiers: [1, 4, 16], rng });
    const taken = clients.filter(({ id }) => ids.includes(id));
    for (const [r, count] of Object.entries(expected)) expect(taken.filter((client) => client.r === Number(r))).toHaveLength(count);
  }
});
