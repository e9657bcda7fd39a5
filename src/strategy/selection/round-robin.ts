import { requireFraction, withPolicy } from "../policy.ts";
import type { Selection } from "../strategy.ts";
import { idsOf, shareOf } from "./share.ts";

export interface RoundRobinSelectionOptions {
  /** Share of all clients that train in a round, above 0; at least one client does. */
  readonly fraction: number;
}

/**
 * Clients in rotation: with m of n a round, round t takes those at (t−1)·m … t·m − 1, modulo n. Nothing is drawn, so every
 * seed has the same rotation.
 */
export function roundRobinSelection({ fraction }: RoundRobinSelectionOptions): Selection {
  requireFraction(fraction, "roundRobinSelection.fraction");
  return withPolicy({ name: "round-robin", fraction }, ({ clients, round }) => {
    const count = shareOf(fraction, clients.length);
    const first = ((round - 1) * count) % clients.length;
    return idsOf([...clients.slice(first, first + count), ...clients.slice(0, Math.max(0, first + count - clients.length))]);
  });
}
