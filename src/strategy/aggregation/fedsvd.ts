import type { Adapter } from "../../adapter/adapter.ts";
import type { Aggregation, RoundContext } from "../strategy.ts";
import { afterMeans } from "./after-means.ts";
import { componentsOf, factorise, type Split } from "./factorise.ts";
import { ffaLora } from "./ffa-lora.ts";

/**
 * FedSVD (Lee et al., https://arxiv.org/abs/2505.12805): clients train B alone, as in FFA-LoRA; after every round the server gives
 * A the directions that have been learned, by an SVD that leaves the product as it is.
 *
 *     B[:, seg m] ← Σ_{k∈S_m} n_k·B_k[:, seg m] / Σ_{k∈S_m} n_k     U·Σ·Vᵀ = B·A     B ← U·Σ     A ← Vᵀ
 *
 * The paper has one rank. Ours: mixed ranks, each segment averaged over the clients that train it; and components that the product
 * lacks keep their A, with B = 0.
 */
export function fedSvd(): Aggregation {
  return { ...afterMeans(ffaLora(), refactorised), policy: { name: "fedsvd" } };
}

function refactorised(global: Adapter, { layout }: RoundContext): Adapter {
  return { ...global, rows: factorise(componentsOf(global.rows, layout.width), layout, global.rows, allInB) };
}

const allInB: Split = (value) => ({ a: 1, b: value });
