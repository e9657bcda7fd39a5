import type { Aggregation } from "../strategy.ts";
import { type ContributorOptions, describeContributors, segmentMeans } from "./segment-means.ts";

/**
 * Zero-padding of weights, the baseline of HetLoRA (Cho et al., https://arxiv.org/abs/2401.06432) and FLoRA (Wang et
 * al., https://arxiv.org/abs/2409.05976): every client's new factors are padded with zeros to rank R and averaged
 * over all clients that reported, n_k-weighted.
 *
 *     A ← Σ_k n_k·[A_k; 0] / Σ_k n_k         likewise the columns of B
 *
 * A segment shrinks, round by round, by the share of the clients that lack it; one that nobody trained becomes zero
 * in both factors, where no gradient can move it again.
 */
export function zeroPadWeights(): Aggregation {
  return { policy: { name: "zero-pad-weights" }, ...segmentMeans("examples", (share) => ({ keep: share, step: share })) };
}

/**
 * Zero-padding of deltas: the clients' changes are padded with zeros and averaged over all clients that reported, as on a
 * server that treats updates as pseudo-gradients (Reddi et al., https://arxiv.org/abs/2003.00295).
 *
 *     A ← A + Σ_k n_k·[ΔA_k; 0] / Σ_k n_k    likewise the columns of B
 */
export function zeroPadDeltas(options: ContributorOptions = {}): Aggregation {
  const policy = { name: "zero-pad-deltas", ...describeContributors(options) };
  return { policy, ...segmentMeans("examples", (share) => ({ keep: 1, step: share }), options) };
}
