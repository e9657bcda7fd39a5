import { apportion } from "../apportion.ts";
import { requireOption, withPolicy } from "../policy.ts";
import type { PolicyContext, RankAssigner } from "../strategy.ts";

/** Ranks by share: `{ 16: 0.1, 4: 0.9 }` gives a tenth of the clients, drawn at random, rank 16. Shares sum to 1. */
export function tieredRanks(shares: Readonly<Record<number, number>>): RankAssigner {
  const values = Object.values(shares);
  const total = values.reduce((sum, share) => sum + share, 0);
  const areRanks = Object.keys(shares).every((rank) => /^[1-9]\d*$/.test(rank));
  const areShares = values.every((share) => share > 0) && Math.abs(total - 1) < 1e-9;
  requireOption(areRanks && areShares, "tieredRanks.shares", "ranks with shares above 0 that sum to 1", shares);

  // The draw is over all clients at once, the question about one: each run's draw is kept.
  const draws = new WeakMap<PolicyContext, readonly number[]>();
  return withPolicy({ name: "tiered", shares: { ...shares } }, (client, context) => {
    const ranks = draws.get(context) ?? drawRanks(shares, context);
    draws.set(context, ranks);
    return ranks[client.index] as number;
  });
}

/** One rank a client, as close to the shares as whole clients allow. */
function drawRanks(shares: Readonly<Record<number, number>>, { clients, rng }: PolicyContext): readonly number[] {
  const tiers = Object.entries(shares).map(([rank, share]) => ({ r: Number(rank), quota: share * clients.length }));
  const counts = apportion(
    tiers.map(({ quota }) => quota),
    0,
  );
  return rng("ranks").shuffle(tiers.flatMap(({ r }, place) => Array<number>(counts[place] ?? 0).fill(r)));
}
