import { requireOption } from "../policy.ts";
import type { Aggregation } from "../strategy.ts";
import { median } from "./robust/median.ts";
import { multiKrum, type MultiKrumOptions } from "./robust/multi-krum.ts";
import { robustSegments } from "./robust/robust-segments.ts";
import type { RobustRule } from "./robust/rule.ts";
import { trimmedMean, type TrimmedMeanOptions } from "./robust/trimmed-mean.ts";
import { type ContributorOptions, describeContributors, segmentMeans } from "./segment-means.ts";
import type { Weights } from "./weights.ts";

export interface SegmentWiseOptions extends ContributorOptions {
  readonly weights?: Weights;
  /** Replaces the mean, so that a few malicious clients cannot move a segment as they like. */
  readonly robust?: RobustOptions | undefined;
}

export type RobustOptions =
  | {
      readonly name: "clip";
      /** Largest ‖Δ‖₂ of a client's update, rows and dense together. */
      readonly norm: number;
    }
  | { readonly name: "median" }
  | ({ readonly name: "trimmed-mean" } & TrimmedMeanOptions)
  | ({ readonly name: "multi-krum" } & MultiKrumOptions);

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
 * A segment that one or two clients train follows their data alone and may make the whole adapter worse. `zeroPadDeltas`
 * divides by all clients that reported, which damps it.
 *
 * `robust` replaces the mean of the deltas of S_m; the dense vector is one more segment, trained by all clients that
 * reported. `clip` is the mean of deltas scaled down to a norm, as Sun et al. 2019 bound them (norm thresholding,
 * https://arxiv.org/abs/1911.07963, Section 4): Δ_k / max(1, ‖Δ_k‖ / norm), with the norm of the whole delta, so that it
 * keeps its direction; the sum is still divided by Σ w_k.
 */
export function segmentWise({ weights = "examples", robust, ...contributors }: SegmentWiseOptions = {}): Aggregation {
  const name = "segment-wise";
  const described = { ...describeContributors(contributors), ...(robust && { robust: { ...robust } }) };
  const rule = robustRule(robust);
  // The median and the trimmed mean give all clients the same weight.
  if (rule)
    return { policy: { name, ...(rule.choose && { weights }), ...described }, ...robustSegments(rule, { weights, ...contributors }) };
  const clip = robust?.name === "clip" ? robust.norm : undefined;
  requireOption(clip === undefined || (clip > 0 && clip < Infinity), "robust.norm", "above 0", clip);
  return { policy: { name, weights, ...described }, ...segmentMeans(weights, () => ({ keep: 1, step: 1 }), { ...contributors, clip }) };
}

/** Least number of clients in a round for any segment to change. */
export function clientsNeeded({ robust, minContributors = 1 }: Pick<SegmentWiseOptions, "robust" | "minContributors">): number {
  return Math.max(minContributors, robustRule(robust)?.atLeast ?? 1);
}

/** Undefined for a mean. */
function robustRule(robust: RobustOptions | undefined): RobustRule | undefined {
  switch (robust?.name) {
    case "median":
      return median();
    case "trimmed-mean":
      return trimmedMean(robust);
    case "multi-krum":
      return multiKrum(robust);
    case "clip":
    case undefined:
      return undefined;
  }
}
