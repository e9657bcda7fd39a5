import { requireOption } from "../policy.ts";
import type { Aggregation } from "../strategy.ts";
import { segmentMeans, type Weights } from "./segment-means.ts";

export interface SegmentWiseOptions {
  readonly weights?: Weights;
  /** p, from 0 to 1: damps the step of a segment that few clients train, by the p-th power of their share. */
  readonly damping?: number;
}

/**
 * Segment-wise aggregation: "averages only over clients contributing to each rank segment, avoiding dilution from
 * zero-padded lower-rank clients" (PreLort, https://arxiv.org/abs/2606.15963). With ρ the tiers, segment
 * m = components [ρ(m-1), ρ(m)), and S_m = the clients that reported and have r_k ≥ ρ(m):
 *
 *     A[seg m] ← A[seg m] + σ_m^p · Σ_{k∈S_m} w_k·ΔA_k[seg m] / Σ_{k∈S_m} w_k       likewise the columns of B
 *     σ_m = Σ_{k∈S_m} w_k / Σ_{k reported} w_k
 *
 * Our reading, where the paper's abstract leaves it open: p = 0, and a segment that nobody trained keeps its value,
 * to the byte (A = B = 0 is a stationary point, so a zeroed segment would never learn again).
 *
 * Ours, not the paper's: p > 0. A segment that one or two clients train follows their data alone, and the adapter
 * comes out worse with it than without; p = 1 is zero-padding of deltas.
 */
export function segmentWise({ weights = "examples", damping = 0 }: SegmentWiseOptions = {}): Aggregation {
  requireOption(damping >= 0 && damping <= 1, "segmentWise.damping", "from 0 to 1", damping);
  return { policy: { name: "segment-wise", weights, damping }, ...segmentMeans(weights, (share) => ({ keep: 1, step: share ** damping })) };
}
