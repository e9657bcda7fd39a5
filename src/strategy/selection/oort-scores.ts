import type { ClientHistory, RankedClient, SelectionContext } from "../strategy.ts";

/** A client that has reported before, and what Oort expects of training it again. */
export interface ScoredClient {
  readonly client: RankedClient;
  /** Above 0 from round 2 on. */
  readonly score: number;
}

/** Utilities are clipped at this quantile. */
const CLIP = 0.9;

/**
 * The score of every client in the history, in the order of all clients.
 *
 *     score_k = (U_k + √(0.1·ln t / t_k)) · (T / d_k)²      the last factor only where d_k > T
 *     U_k     = n_k · √(mean of loss² over k's last fit), clipped at the 90th percentile, then scaled to 0…1 over all
 *     t_k     = the round in which k last reported,   d_k = 1 / its declared speed,   T = 1 / preferredSpeed
 */
export function oortScores(
  { clients, history, round }: Pick<SelectionContext, "clients" | "history" | "round">,
  preferredSpeed: number | undefined,
): readonly ScoredClient[] {
  const seen = clients.flatMap((client) => {
    const last = history.get(client.id);
    return last ? [{ client, last }] : [];
  });
  const utilities = normalise(seen.map(({ client, last }) => utility(client, last)));
  return seen.map(({ client, last }, index) => {
    const staleness = Math.sqrt((0.1 * Math.log(round)) / last.round);
    const { speed } = client.profile;
    const slowness = preferredSpeed !== undefined && speed !== undefined ? Math.min(1, speed / preferredSpeed) ** 2 : 1;
    return { client, score: ((utilities[index] as number) + staleness) * slowness };
  });
}

/** Infinite, and so clipped to the highest, if the client's loss was not finite. */
function utility({ size }: RankedClient, { rmsLoss }: ClientHistory): number {
  return rmsLoss === null ? Infinity : size * rmsLoss;
}

/** Clips at the quantile of the finite values (nearest rank), then scales from 0 for the lowest to 1 for the highest. */
function normalise(utilities: readonly number[]): readonly number[] {
  const finite = utilities.filter(Number.isFinite).toSorted((a, b) => a - b);
  const highest = finite[Math.ceil(CLIP * finite.length) - 1] ?? 0;
  const clipped = utilities.map((value) => Math.min(value, highest));
  const lowest = finite[0] ?? 0;
  return clipped.map((value) => (highest > lowest ? (value - lowest) / (highest - lowest) : 0));
}
