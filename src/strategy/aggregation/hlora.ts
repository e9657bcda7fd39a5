import { prefix } from "../../adapter/adapter.ts";
import type { Aggregation } from "../strategy.ts";
import { factorise, meanProduct, type Split } from "./factorise.ts";
import { bufferUpdates } from "./buffered-updates.ts";

/**
 * HLoRA (Liu et al., https://arxiv.org/abs/2503.00813), as in NVIDIA FLARE's example: the SVD of the mean product by QR of
 * the stacked factors, with all of Σ in A.
 *
 *     [√p_1·B_1 │ …] = Q_B·R_B     [√p_1·A_1; …] = R_Aᵀ·Q_Aᵀ     U·Σ·Vᵀ = R_B·R_Aᵀ     B ← Q_B·U     A ← Σ·(Q_A·V)ᵀ
 *
 * p_k = n_k / Σ_k n_k. Weighting B by p_k or both factors by √p_k differs only in rounding.
 */
export function hLora(): Aggregation {
  return {
    policy: { name: "hlora" },
    distribute: prefix,
    begin: (context) =>
      bufferUpdates(context, (updates) => ({
        rows: factorise(meanProduct(updates), context.layout, context.global.rows, allInA),
      })),
  };
}

const allInA: Split = (value) => ({ a: value, b: 1 });
