import { describe, expect, it } from "vitest";
import { ConfigError } from "../../../../src/errors.ts";
import { distributedRanks, type RankDistribution } from "../../../../src/strategy/ranks/distributed.ts";
import type { PolicyContext, RankAssigner } from "../../../../src/strategy/strategy.ts";
import { clientsOf, selectionContext } from "../../../../src/testing/index.ts";

function contextOf(sizes: readonly number[], tiers: readonly number[], seed = 0): PolicyContext {
  return selectionContext(clientsOf(sizes.map((size) => ({ size }))), { tiers, seed });
}
const sized = (count: number) => Array.from({ length: count }, (_, index) => 10 + index);
const ranksOf = (assign: RankAssigner, context: PolicyContext) => context.clients.map((client) => assign(client, context));

describe("distributedRanks", () => {
  it.each<[shape: RankDistribution, tiers: readonly number[], clients: number, counts: readonly number[]]>([
    // From the paper, which has four tiers.
    ["uniform", [2, 4, 8, 16], 100, [25, 25, 25, 25]],
    ["heavy-tail-light", [2, 4, 8, 16], 100, [85, 5, 5, 5]],
    ["heavy-tail-strong", [2, 4, 8, 16], 100, [5, 5, 5, 85]],
    ["normal", [2, 4, 8, 16], 100, [5, 45, 45, 5]],
    // Our extension to other numbers of tiers.
    ["uniform", [1, 2, 4, 8, 16], 10, [2, 2, 2, 2, 2]],
    ["heavy-tail-light", [1, 2, 4, 8, 16], 10, [9, 1, 0, 0, 0]],
    ["heavy-tail-strong", [1, 2, 4, 8, 16], 1613, [61, 61, 60, 60, 1371]],
    ["normal", [1, 2, 4, 8, 16], 100, [4, 24, 44, 24, 4]],
    ["normal", [2, 4], 10, [5, 5]],
    ["normal", [8], 3, [3]],
    ["heavy-tail-light", [8], 3, [3]],
    ["heavy-tail-strong", [8], 3, [3]],
  ])("%s over the tiers %j splits %d clients into %j", (shape, tiers, clients, counts) => {
    for (const correlated of [false, true]) {
      const ranks = ranksOf(distributedRanks({ shape, correlated }), contextOf(sized(clients), tiers));
      expect(tiers.map((tier) => ranks.filter((r) => r === tier).length)).toEqual(counts);
    }
  });

  it("gives larger ranks to clients with more examples when correlated, and to the later client on a tie", () => {
    const assign = distributedRanks({ shape: "uniform", correlated: true });
    expect(ranksOf(assign, contextOf([30, 10, 30, 20, 40, 5], [1, 2, 4]))).toEqual([2, 1, 4, 2, 4, 1]);
  });

  it("can rank 200,000 clients", () => {
    const ranks = ranksOf(distributedRanks({ shape: "uniform", correlated: true }), contextOf(sized(200_000), [1, 2]));
    expect([ranks[0], ranks[99_999], ranks[100_000], ranks[199_999]]).toEqual([1, 1, 2, 2]);
  });

  it("draws ranks from the seed alone when not correlated", () => {
    const assign = distributedRanks({ shape: "uniform" });
    const drawn = ranksOf(assign, contextOf(sized(40), [1, 2, 4], 1));
    expect(ranksOf(assign, contextOf(sized(40), [1, 2, 4], 1))).toEqual(drawn);
    expect(ranksOf(assign, contextOf(sized(40), [1, 2, 4], 2))).not.toEqual(drawn);
    expect(drawn).not.toEqual(drawn.toSorted((a, b) => a - b));
  });

  it("refuses an unknown shape", () => {
    const make = () => distributedRanks({ shape: "toString" as RankDistribution });
    expect(make).toThrow(ConfigError);
    expect(make).toThrow(/distributedRanks\.shape .*uniform, heavy-tail-light, heavy-tail-strong, normal, got "toString"/);
  });
});
