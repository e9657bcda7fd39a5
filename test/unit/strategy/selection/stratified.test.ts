import { expect, test } from "vitest";
import { stratifiedSelection } from "../../../../src/strategy/selection/stratified.ts";
import { clientsOf, selectionContext } from "../../../../src/testing/index.ts";

test.each([
  ["the given fraction of each tier", 0.5, { 16: 2, 4: 4, 1: 6 }, { 16: 1, 4: 2, 1: 3 }],
  ["at least one of each tier", 0.1, { 16: 1, 4: 2, 1: 3 }, { 16: 1, 4: 1, 1: 1 }],
  ["by largest remainder where the fraction is not a whole number", 0.3, { 16: 4, 4: 4, 1: 9 }, { 16: 1, 4: 1, 1: 3 }],
  ["nobody from a tier without clients", 0.5, { 16: 0, 4: 2, 1: 2 }, { 16: 0, 4: 1, 1: 1 }],
])("stratified selection takes %s", async (_, fraction, held, expected) => {
  const clients = clientsOf(Object.entries(held).flatMap(([r, count]) => Array.from({ length: count }, () => ({ r: Number(r) }))));
  for (let round = 1; round <= 20; round++) {
    const ids = await stratifiedSelection({ fraction })(selectionContext(clients, { round, tiers: [1, 4, 16] }));
    const taken = clients.filter(({ id }) => ids.includes(id));
    for (const [r, count] of Object.entries(expected)) expect(taken.filter((client) => client.r === Number(r))).toHaveLength(count);
  }
});
