import { prefix } from "../../adapter/adapter.ts";
import type { Aggregation } from "../strategy.ts";
import { factorise, trainedComponents } from "./factorise.ts";
import { gather, shares } from "./buffered-updates.ts";

/**
 * FlexLoRA (Bai et al., https://arxiv.org/abs/2402.11505): the SVD of the mean product, of which a client gets as many
 * components as its rank.
 *
 *     U·Σ·Vᵀ = Σ_k p_k·B_k·A_k,  p_k = n_k / Σ_k n_k          B ← U·√Σ          A ← √Σ·Vᵀ
 *
 * One scale s stands before every product. Ours: √Σ on both factors. The paper's public code leaves all of Σ in B;
 * factors that far out of balance diverged, in a small simulation, at a learning rate that suits the others. The
 * product is of those who reported: what a high-rank client learned fades while it is absent.
 */
export function flexLora(): Aggregation {
  return {
    policy: { name: "flexlora" },
    distribute: prefix,
    begin: (context) =>
      gather(context, (updates) => {
        const p = shares(updates);
        const components = updates.flatMap((update, index) => trainedComponents(update, p[index] as number));
        return { rows: factorise(components, context.layout, context.global.rows) };
      }),
  };
}
