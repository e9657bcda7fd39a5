import type { Aggregation } from "../strategy.ts";
import { requireOneRank } from "./one-rank.ts";
import { segmentMeans } from "./segment-means.ts";

/**
 * FedIT (Zhang et al., https://arxiv.org/abs/2305.05644): the mean of A and the mean of B, n_k-weighted. A round of
 * clients with different ranks is refused.
 *
 *     A ← Σ_k n_k·A_k / Σ_k n_k              B ← Σ_k n_k·B_k / Σ_k n_k
 */
export function fedIt(): Aggregation {
  const means = segmentMeans("examples", () => ({ keep: 1, step: 1 }));
  return {
    policy: { name: "fedit" },
    addsUp: true,
    distribute: means.distribute,
    begin(context) {
      requireOneRank("FedIT", context);
      return means.begin(context);
    },
  };
}
