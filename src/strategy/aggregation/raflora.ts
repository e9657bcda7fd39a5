import { prefix } from "../../adapter/adapter.ts";
import { segments } from "../../adapter/segments.ts";
import type { Aggregation } from "../strategy.ts";
import { componentsOf, factorise, trainedComponents } from "./factorise.ts";
import { bufferUpdates, shares } from "./buffered-updates.ts";

/**
 * raFLoRA (Wu et al., https://arxiv.org/abs/2602.13486): FlexLoRA with every segment's products averaged over the
 * clients that train it, so that high ranks do not fade. With S_m = the clients that reported and have r_k ≥ ρ(m):
 *
 *     U·Σ·Vᵀ = Σ_m Σ_{k∈S_m} n_k·B_k[:, seg m]·A_k[seg m] / Σ_{k∈S_m} n_k          B ← U·√Σ          A ← √Σ·Vᵀ
 *
 * Ours: a segment that nobody trained contributes its previous product; by the formula it would be lost.
 */
export function raFLoRA(): Aggregation {
  return {
    policy: { name: "raflora" },
    distribute: prefix,
    begin: (context) => {
      const { layout, global } = context;
      return bufferUpdates(context, (updates) => {
        const components = segments(layout.tiers).flatMap(({ from, to }) => {
          const contributors = updates.filter(({ r }) => r >= to);
          if (contributors.length === 0) return componentsOf(global.rows.subarray(from * layout.width, to * layout.width), layout.width);
          const p = shares(contributors);
          return contributors.flatMap((update, index) => trainedComponents(update, p[index] as number, from, to));
        });
        return { rows: factorise(components, layout, global.rows) };
      });
    },
  };
}
