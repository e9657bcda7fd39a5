import { requireOption, withPolicy } from "../policy.ts";
import type { Client, RankAssigner } from "../strategy.ts";
import { jointly } from "./jointly.ts";
import { ranksByShare } from "./tiered.ts";

export interface DistributedRanksOptions {
  readonly shape: RankDistribution;
  /** Clients with more examples get larger ranks; by default ranks are drawn at random. */
  readonly correlated?: boolean | undefined;
}

export type RankDistribution = keyof typeof shares;

/**
 * FlexLoRA's distributions of devices (Bai et al., https://arxiv.org/abs/2402.11505): how the clients are spread over the
 * run's tiers. For four tiers, lowest first, in per cent:
 *
 *     uniform 25 25 25 25   heavy-tail-light 85 5 5 5   heavy-tail-strong 5 5 5 85   normal 5 45 45 5
 *
 * Ours for other numbers of tiers: 85 for the lowest or highest and the rest spread evenly; for `normal` a bell curve,
 * proportional to 9^(−9/8·z²) with z evenly spaced from −1 to 1. Shares become whole clients by the largest remainder, so
 * with few clients a tier may get none. Correlated ranks go to clients in the order of their sizes, ties in client order.
 */
export function distributedRanks({ shape, correlated = false }: DistributedRanksOptions): RankAssigner {
  requireOption(Object.hasOwn(shares, shape), "distributedRanks.shape", `one of ${Object.keys(shares).join(", ")}`, shape);
  return withPolicy(
    { name: "distribution", shape, correlated },
    jointly(({ clients, tiers, rng }) => {
      const ranks = ranksByShare(tiers, shares[shape](tiers.length), clients.length);
      return correlated ? inOrderOfSize(ranks, clients) : rng("ranks").shuffle(ranks);
    }),
  );
}

/** Each tier's share, lowest first; they sum to 1. */
const shares = {
  uniform: (tiers: number) => proportional(tiers, () => 1),
  "heavy-tail-light": (tiers: number) => heavyTail(tiers, 0),
  "heavy-tail-strong": (tiers: number) => heavyTail(tiers, tiers - 1),
  normal: (tiers: number) => proportional(tiers, (index) => 9 ** ((-9 / 8) * (tiers === 1 ? 0 : (2 * index) / (tiers - 1) - 1) ** 2)),
} as const;

function heavyTail(tiers: number, heavy: number): number[] {
  return proportional(tiers, (index) => (index === heavy ? 0.85 : 0.15 / (tiers - 1)));
}

function proportional(tiers: number, weight: (index: number) => number): number[] {
  const weights = Array.from({ length: tiers }, (_, index) => weight(index));
  const total = weights.reduce((sum, each) => sum + each, 0);
  return weights.map((each) => each / total);
}

/** Each client's rank, given ascending ranks: the smallest client gets the first. */
function inOrderOfSize(ranks: readonly number[], clients: readonly Client[]): readonly number[] {
  const ascending = clients.toSorted((a, b) => a.size - b.size || a.index - b.index);
  const rankOf = new Map(ascending.map((client, index) => [client, ranks[index] as number]));
  return clients.map((client) => rankOf.get(client) as number);
}
