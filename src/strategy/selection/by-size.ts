import { requireFraction, withPolicy } from "../policy.ts";
import type { Selection } from "../strategy.ts";
import { idsOf, shareOf } from "./share.ts";
import { drawByWeight } from "./weighted-draw.ts";

export interface BySizeSelectionOptions {
  /** Share of all clients that train in a round, above 0; at least one client does. */
  readonly fraction: number;
}

/**
 * Clients drawn without replacement, one after the other, each time with probability n_k / Σ n_j over those not yet
 * drawn. The aggregation weights by n_k as well, unless it has `weights: "uniform"`.
 */
export function bySizeSelection({ fraction }: BySizeSelectionOptions): Selection {
  requireFraction(fraction, "bySizeSelection.fraction");
  return withPolicy({ name: "by-size", fraction }, ({ clients, rng }) => {
    const count = shareOf(fraction, clients.length);
    const drawn = drawByWeight(clients, ({ size }) => size, count, rng("selection"));
    return idsOf(drawn);
  });
}
