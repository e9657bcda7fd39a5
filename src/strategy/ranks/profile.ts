import { ConfigError } from "../../errors.ts";
import { requireOption, withPolicy } from "../policy.ts";
import type { RankAssigner } from "../strategy.ts";

export interface ProfileRanksOptions {
  /** GiB that a device needs for each rank: `{ 16: 24, 8: 12, 1: 0 }`. */
  readonly memoryGiB: Readonly<Record<number, number>>;
}

/** The largest rank that the memory in the client's declared profile affords. */
export function profileRanks({ memoryGiB }: ProfileRanksOptions): RankAssigner {
  const areRanks = Object.keys(memoryGiB).every((rank) => /^[1-9]\d*$/.test(rank));
  const needs = Object.entries(memoryGiB).map(([rank, needed]) => ({ r: Number(rank), needed }));
  const areNeeds = needs.length > 0 && needs.every(({ needed }) => needed >= 0);
  requireOption(areRanks && areNeeds, "profileRanks.memoryGiB", "ranks with the GiB each needs, at least 0", memoryGiB);

  return withPolicy({ name: "profile", memoryGiB: { ...memoryGiB } }, ({ id, index, profile: { memoryGiB: memory } }) => {
    const shortage = memoryShortage(memory, memoryGiB);
    if (shortage) throw new ConfigError([{ path: `data.profiles[${index}].memoryGiB`, message: `of client ${id} ${shortage}` }]);
    return Math.max(...needs.filter(({ needed }) => needed <= (memory as number)).map(({ r }) => r));
  });
}

/** Why a declared memory is too small for any rank; undefined if it is enough for one. */
export function memoryShortage(memory: number | undefined, memoryGiB: Readonly<Record<number, number>>): string | undefined {
  if (memory === undefined) return "is needed: the rank assignment profile gives ranks by it";
  const least = Math.min(...Object.values(memoryGiB));
  return memory >= least ? undefined : `must be at least ${least}, which the smallest rank of the rank assignment needs, got ${memory}`;
}
