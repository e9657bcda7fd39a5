import { namedRanks, rankSpecOf } from "./policy-specs.ts";

interface Ranked {
  readonly lora: { readonly r: number; readonly tiers?: readonly number[] | undefined };
  /** A rank assignment: a spec from a file, or a policy. */
  readonly strategy: { readonly rankAssignment: unknown };
}

/** The run's tiers, ascending and ending with R: as given, else the ranks that the assignment names, else powers of two. */
export function resolveTiers({ lora, strategy }: Ranked): readonly number[] {
  if (lora.tiers) return lora.tiers;
  const spec = rankSpecOf(strategy.rankAssignment);
  const named = spec ? namedRanks(spec).map(({ r }) => r) : [];
  return [...new Set([...(named.length > 0 ? named : powersOfTwo(lora.r)), lora.r])].toSorted((a, b) => a - b);
}

function powersOfTwo(largest: number): number[] {
  return Array.from({ length: Math.floor(Math.log2(largest)) + 1 }, (_, power) => 2 ** power);
}
