import { apportion } from "../apportion.ts";
import { requireOption, withPolicy } from "../policy.ts";
import type { RankAssigner } from "../strategy.ts";
import { jointly } from "./jointly.ts";

/** Ranks by share: `{ 16: 0.1, 4: 0.9 }` gives a tenth of the clients, drawn at random, rank 16. Shares sum to 1. */
export function tieredRanks(shares: Readonly<Record<number, number>>): RankAssigner {
  const values = Object.values(shares);
  const total = values.reduce((sum, share) => sum + share, 0);
  const areRanks = Object.keys(shares).every((rank) => /^[1-9]\d*$/.test(rank));
  const areShares = values.every((share) => share > 0) && Math.abs(total - 1) < 1e-9;
  requireOption(areRanks && areShares, "tieredRanks.shares", "ranks with shares above 0 that sum to 1", shares);

  const ranks = Object.keys(shares).map(Number);
  return withPolicy(
    { name: "tiered", shares: { ...shares } },
    jointly(({ clients, rng }) => rng("ranks").shuffle(ranksByShare(ranks, values, clients.length))),
  );
}

/** `count` ranks in the order of `ranks`, each as often as its share allows: whole clients, by the largest remainder. */
export function ranksByShare(ranks: readonly number[], shares: readonly number[], count: number): readonly number[] {
  const counts = apportion(
    shares.map((share) => share * count),
    0,
  );
  return ranks.flatMap((rank, index) => Array<number>(counts[index] ?? 0).fill(rank));
}
