import type { Aggregation } from "../strategy.ts";
import { type ContributorOptions, describeContributors, segmentMeans } from "./segment-means.ts";

/**
 * FFA-LoRA (Sun et al., https://arxiv.org/abs/2403.12313): A is random, shared and frozen; clients train B alone, and
 * the mean of B is the exact mean of the products.
 *
 *     B[:, seg m] ← Σ_{k∈S_m} n_k·B_k[:, seg m] / Σ_{k∈S_m} n_k
 *
 * The paper has one rank. Ours: mixed ranks, each segment averaged over the clients that train it.
 */
export function ffaLora(options: ContributorOptions = {}): Aggregation {
  const policy = { name: "ffa-lora", ...describeContributors(options) };
  return { policy, fitOptions: { freezeA: true }, ...segmentMeans("examples", () => ({ keep: 1, step: 1 }), options) };
}
