import type { Aggregation } from "../strategy.ts";
import { segmentMeans, type Weights } from "./segment-means.ts";

export interface SegmentWiseOptions {
  readonly weights?: Weights;
}

/**
 * Segment-wise aggregation: "averages only over clients contributing to each rank segment, avoiding dilution from
 * zero-padded lower-rank clients" (PreLort, https://arxiv.org/abs/2606.15963). With ρ the tiers, segment
 * m = components [ρ(m-1), ρ(m)), and S_m = the clients that reported and have r_k ≥ ρ(m):
 *
 *     A[seg m] ← A[seg m] + Σ_{k∈S_m} w_k·ΔA_k[seg m] / Σ_{k∈S_m} w_k          likewise the columns of B
 *
 * Our reading, where the paper's abstract leaves it open: a segment that nobody trained keeps its value, to the
 * byte (A = B = 0 is a stationary point, so a zeroed segment would never learn again).
 *
 * A segment that one or two clients train follows their data alone, and may leave the whole adapter worse with it than
 * without: `zeroPadDeltas` divides by all that reported, which damps it.
 */
export function segmentWise({ weights = "examples" }: SegmentWiseOptions = {}): Aggregation {
  return { policy: { name: "segment-wise", weights }, ...segmentMeans(weights, () => ({ keep: 1, step: 1 })) };
}
