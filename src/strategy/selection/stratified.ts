import { apportion } from "../apportion.ts";
import { requireFraction, withPolicy } from "../policy.ts";
import type { Selection } from "../strategy.ts";
import { idsOf } from "./share.ts";

export interface StratifiedSelectionOptions {
  /** Share of each tier's clients that train in a round, above 0; at least one of each tier does. */
  readonly fraction: number;
}

/**
 * Clients drawn at random within each tier, so that every segment is trained every round: under plain random
 * selection of 30 %, a tier held by one client of ten misses 70 % of the rounds.
 */
export function stratifiedSelection({ fraction }: StratifiedSelectionOptions): Selection {
  requireFraction(fraction, "stratifiedSelection.fraction");
  return withPolicy({ name: "stratified", fraction }, ({ clients, tiers, rng }) => {
    const shuffled = rng("selection").shuffle(clients);
    const strata = tiers.map((tier) => shuffled.filter(({ r }) => r === tier)).filter((stratum) => stratum.length > 0);
    const counts = apportion(
      strata.map((stratum) => fraction * stratum.length),
      1,
    );
    return idsOf(strata.flatMap((stratum, index) => stratum.slice(0, counts[index])));
  });
}
