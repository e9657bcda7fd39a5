import { requireFraction, withPolicy } from "../policy.ts";
import type { Selection } from "../strategy.ts";
import { idsOf, shareOf } from "./share.ts";

export interface RandomSelectionOptions {
  /** Share of all clients that train in a round, above 0; at least one client does. */
  readonly fraction: number;
}

/** Clients drawn at random without replacement, all equally likely, in every round. */
export function randomSelection({ fraction }: RandomSelectionOptions): Selection {
  requireFraction(fraction, "randomSelection.fraction");
  return withPolicy({ name: "random", fraction }, ({ clients, rng }) =>
    idsOf(rng("selection").shuffle(clients).slice(0, shareOf(fraction, clients.length))),
  );
}
