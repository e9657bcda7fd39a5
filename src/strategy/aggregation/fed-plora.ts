import type { Aggregation } from "../strategy.ts";
import { afterMeans } from "./after-means.ts";
import { shuffled } from "./random-components.ts";
import { segmentWise } from "./segment-wise.ts";

/**
 * Fed-PLoRA (Zhang et al., https://arxiv.org/abs/2602.16936), §3: the global adapter is R modules of rank 1. A client of rank
 * r_k trains r_k of them drawn at random, S_k; the others are folded into its base model, so that it starts from the whole global
 * adapter (`fit.acting_tail: 1`). Each module is the mean over the clients that trained it:
 *
 *     [A; B][j] ← Σ_{k: j∈S_k} n_k·[A_k; B_k][j] / Σ_{k: j∈S_k} n_k
 *
 * The paper draws S_k for every client. Ours: one order of the components is drawn a round, the same for all, of which a client
 * trains the prefix. A truncated adapter has a random part of the components.
 */
export function fedPLoRA(): Aggregation {
  return { ...afterMeans(segmentWise(), shuffled), policy: { name: "fed-plora" } };
}
