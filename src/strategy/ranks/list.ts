import { ConfigError } from "../../errors.ts";
import { requireOption, withPolicy } from "../policy.ts";
import type { RankAssigner } from "../strategy.ts";

/** Gives the i-th client the i-th rank. */
export function listRanks(ranks: readonly number[]): RankAssigner {
  requireOption(ranks.length > 0 && ranks.every(isRank), "listRanks.ranks", "whole numbers of at least 1", ranks);
  return withPolicy({ name: "list", ranks: [...ranks] }, (client, { clients }) => {
    const rank = ranks[client.index];
    if (rank !== undefined && ranks.length === clients.length) return rank;
    throw new ConfigError([
      { path: "strategy.rankAssignment.ranks", message: `holds ${ranks.length} ranks for ${clients.length} clients` },
    ]);
  });
}

export function isRank(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 1;
}
