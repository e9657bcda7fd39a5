import { requireFraction, requireOption, withPolicy } from "../policy.ts";
import type { RankedClient, Selection } from "../strategy.ts";
import { idsOf, shareOf } from "./share.ts";
import { drawByWeight } from "./weighted-draw.ts";

export interface PowerOfChoiceSelectionOptions {
  /** Share of all clients that train in a round, above 0; at least one client does. */
  readonly fraction: number;
  /** d: clients that are asked for their loss, at least as many as train. */
  readonly candidates: number;
}

/**
 * Power-of-choice (Cho et al., https://arxiv.org/abs/2010.01243): d candidates, drawn without replacement with
 * probability proportional to n_k, are asked for their loss, and the m with the highest train.
 *
 *     S = the m clients k ∈ D with the largest F_k(w),   D = d clients drawn by n_k / Σ n_j
 *
 * Ours: F_k is the loss of the prefix that k would train, at its own rank, on some of its training examples (the paper's
 * estimate from a mini-batch). A loss that is not finite counts as the highest, since no client is served worse; ties go to
 * the earlier client.
 */
export function powerOfChoiceSelection({ fraction, candidates }: PowerOfChoiceSelectionOptions): Selection {
  requireFraction(fraction, "powerOfChoiceSelection.fraction");
  const isCount = Number.isSafeInteger(candidates) && candidates >= 1;
  requireOption(isCount, "powerOfChoiceSelection.candidates", "a whole number of at least 1", candidates);
  return withPolicy({ name: "power-of-choice", fraction, candidates }, async ({ clients, rng, losses }) => {
    const count = shareOf(fraction, clients.length);
    const drawn = drawByWeight(clients, ({ size }) => size, Math.max(count, candidates), rng("selection"));
    const asked = drawn.toSorted((a, b) => a.index - b.index);
    return idsOf(byLoss(asked, await losses(asked)).slice(0, count));
  });
}

/** The highest loss first. */
function byLoss(clients: readonly RankedClient[], losses: readonly number[]): readonly RankedClient[] {
  const asked = clients.map((client, index) => ({ client, loss: Number.isFinite(losses[index]) ? (losses[index] as number) : Infinity }));
  // Infinity − Infinity is NaN.
  const ordered = asked.toSorted((a, b) => (a.loss === b.loss ? 0 : b.loss - a.loss));
  return ordered.map(({ client }) => client);
}
