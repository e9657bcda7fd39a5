import { describe, expect, it, vi } from "vitest";
import { ConfigError } from "../../../../src/errors.ts";
import { tieredRanks } from "../../../../src/strategy/ranks/tiered.ts";
import type { Client, PolicyContext, RankAssigner } from "../../../../src/strategy/strategy.ts";
import { createRng, deriveSeed } from "../../../../src/base/rng.ts";

function contextOf(count: number, seed = 0): PolicyContext {
  const clients = Array.from({ length: count }, (_, index): Client => ({ id: `c${index}`, index, size: 1, labelCounts: [], profile: {} }));
  return { clients, tiers: [2, 4, 8, 16], rng: (purpose) => createRng(deriveSeed(seed, purpose)) };
}

const ranksOf = (assign: RankAssigner, context: PolicyContext) => context.clients.map((client) => assign(client, context));
const ascending = (ranks: readonly number[]) => ranks.toSorted((a, b) => a - b);

describe("tieredRanks", () => {
  it("gives each rank its share of the clients", () => {
    const ranks = ranksOf(tieredRanks({ 16: 0.1, 8: 0.2, 4: 0.3, 2: 0.4 }), contextOf(10));
    expect(ascending(ranks)).toEqual([2, 2, 2, 2, 4, 4, 4, 8, 8, 16]);
  });

  it("rounds to whole clients by the largest remainder", () => {
    expect(ascending(ranksOf(tieredRanks({ 16: 0.1, 4: 0.35, 2: 0.55 }), contextOf(7)))).toEqual([2, 2, 2, 2, 4, 4, 16]);
  });

  it("draws the clients of each rank from the seed alone", () => {
    const shares = { 16: 0.5, 2: 0.5 };
    const drawn = ranksOf(tieredRanks(shares), contextOf(20, 1));
    expect(ranksOf(tieredRanks(shares), contextOf(20, 1))).toEqual(drawn);
    expect(ranksOf(tieredRanks(shares), contextOf(20, 2))).not.toEqual(drawn);
    expect(drawn).not.toEqual(ascending(drawn));
  });

  it("keeps the draws of several runs separate, in whatever order it is asked", () => {
    const assign = tieredRanks({ 16: 0.5, 2: 0.5 });
    const [a, b] = [contextOf(6, 1), contextOf(8, 2)];
    const alone = [ranksOf(tieredRanks({ 16: 0.5, 2: 0.5 }), a), ranksOf(tieredRanks({ 16: 0.5, 2: 0.5 }), b)];
    const mixed = a.clients.toReversed().map((client) => [assign(client, a), assign(b.clients[client.index]!, b)]);
    expect(mixed.map(([rank]) => rank)).toEqual(alone[0]!.toReversed());
    expect(ranksOf(assign, b)).toEqual(alone[1]);
  });

  it("draws once per run, not once per client", () => {
    const context = contextOf(50);
    const rng = vi.spyOn(context, "rng");
    ranksOf(tieredRanks({ 16: 0.5, 2: 0.5 }), context);
    expect(rng).toHaveBeenCalledTimes(1);
  });

  it("describes its shares, from which the run's tiers are derived", () => {
    expect(tieredRanks({ 8: 0.5, 2: 0.5 }).policy).toEqual({ name: "tiered", shares: { 8: 0.5, 2: 0.5 } });
  });

  it.each([{ 8: 0.5 }, { 8: 1.2, 2: -0.2 }, { 8: 1, 0: 0 }, { 1.5: 1 }, {}])("refuses invalid shares: %j", (shares) => {
    expect(() => tieredRanks(shares as Record<number, number>)).toThrow(ConfigError);
    const issues = [expect.objectContaining({ path: "tieredRanks.shares" })];
    expect(() => tieredRanks(shares as Record<number, number>)).toThrow(expect.objectContaining({ issues }));
  });
});
