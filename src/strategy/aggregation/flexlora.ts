import { prefix } from "../../adapter/adapter.ts";
import type { Aggregation } from "../strategy.ts";
import { factorise, meanProduct } from "./factorise.ts";
import { bufferUpdates } from "./buffered-updates.ts";

/**
 * FlexLoRA (Bai et al., https://arxiv.org/abs/2402.11505): the SVD of the mean product; a client gets as many of its
 * components as its rank.
 *
 *     U·Σ·Vᵀ = Σ_k p_k·B_k·A_k,  p_k = n_k / Σ_k n_k          B ← U·√Σ          A ← √Σ·Vᵀ
 *
 * All products have the same scale s. Ours: √Σ on both factors. The paper's public code leaves all of Σ in B; in a small
 * simulation, factors that far out of balance diverged at a learning rate that suits the other methods. Only clients that
 * reported contribute to the product: what a high-rank client learned fades while it is absent.
 */
export function flexLora(): Aggregation {
  return {
    policy: { name: "flexlora" },
    distribute: prefix,
    begin: (context) =>
      bufferUpdates(context, (updates) => ({
        rows: factorise(meanProduct(updates), context.layout, context.global.rows),
      })),
  };
}
