import type { AdapterLayout } from "../../adapter/layout.ts";
import { tailNorm } from "../../adapter/tail-norm.ts";
import { requireOption, withPolicy } from "../policy.ts";
import type { Client, PolicyContext, RankAssigner, RankedClient, Update } from "../strategy.ts";
import { isRank, listRanks } from "./list.ts";

export interface SelfPruningRanksOptions {
  /** The ranks that the clients start with, one each, in the order of the clients. */
  readonly ranks: readonly number[];
  /** γ: a rank r is pruned to the largest tier ≤ ⌊γ·r⌋. */
  readonly gamma?: number | undefined;
  /** λ of the penalty on the tail that a fit adds to its loss; 0 for none. */
  readonly penalty: number;
}

/**
 * HetLoRA's rank self-pruning (Cho et al., https://arxiv.org/abs/2401.06432). A fit minimises its loss + λ·tail, and a
 * client whose tail shrank in the fit continues at the smaller rank:
 *
 *     tail = Σ_modules ‖B[:, ρ:]‖_F · ‖A[ρ:, :]‖_F,   ρ = ⌊γ·r_k⌋,   r_k ← ρ if tail after < tail before
 *
 * Ours: ranks are tiers, so ρ is the largest tier ≤ ⌊γ·r_k⌋ and the lowest tier is never pruned. (The penalty always covers
 * the components above the next lower tier, which is the same unless γ skips a tier.) An untrained tail has B = 0 and
 * cannot shrink.
 */
export function selfPruningRanks({ ranks, gamma = 0.99, penalty }: SelfPruningRanksOptions): RankAssigner {
  requireOption(ranks.length > 0 && ranks.every(isRank), "selfPruningRanks.ranks", "whole numbers of at least 1", ranks);
  requireOption(gamma > 0 && gamma < 1, "selfPruningRanks.gamma", "above 0 and below 1", gamma);
  requireOption(penalty >= 0 && penalty < Infinity, "selfPruningRanks.penalty", "at least 0", penalty);
  const initial = listRanks(ranks);
  const assign = withPolicy({ name: "self-pruning", ranks: [...ranks], gamma, penalty }, (client: Client, context: PolicyContext) =>
    initial(client, context),
  );
  return Object.assign(assign, {
    fitOptions: { tailPenalty: penalty },
    revise: (_: RankedClient, update: Update, layout: AdapterLayout) => prune(gamma, update, layout),
  });
}

function prune(gamma: number, { r, received, delta }: Update, layout: AdapterLayout): number {
  const smaller = layout.tiers.findLast((tier) => tier <= Math.floor(gamma * r));
  if (smaller === undefined) return r;
  const trained = delta.rows.map((change, index) => (received.rows[index] as number) + change);
  const hasShrunk = tailNorm(layout, trained, smaller, r) < tailNorm(layout, received.rows, smaller, r);
  return hasShrunk ? smaller : r;
}
