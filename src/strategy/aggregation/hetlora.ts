import { prefix } from "../../adapter/adapter.ts";
import { energy } from "../../adapter/energy.ts";
import type { AdapterLayout } from "../../adapter/layout.ts";
import type { Aggregation, Update } from "../strategy.ts";
import { bufferUpdates } from "./buffered-updates.ts";

/**
 * HetLoRA (Cho et al., https://arxiv.org/abs/2401.06432): zero-padding of weights, with clients weighted by the norm of
 * their product over all adapted modules.
 *
 *     A ← Σ_k p_k·[A_k; 0],   p_k = ‖B_k·A_k‖_F / Σ_j ‖B_j·A_j‖_F          likewise the columns of B
 *
 * The paper's other half, rank self-pruning, is a rank assignment: `selfPruningRanks`. `modules_to_save` are
 * n_k-weighted, as everywhere. If no client has a product yet, all have the same weight.
 */
export function hetLora(): Aggregation {
  return {
    policy: { name: "hetlora" },
    distribute: prefix,
    begin: (context) => bufferUpdates(context, (updates) => ({ rows: weighByProduct(updates, context.layout) })),
  };
}

function weighByProduct(updates: readonly Update[], layout: AdapterLayout): Float32Array {
  const trained = updates.map(({ received, delta }) => delta.rows.map((change, index) => (received.rows[index] as number) + change));
  const norms = updates.map(({ r }, k) => Math.sqrt(energy(layout, trained[k] as Float32Array, 0, r)));
  const total = norms.reduce((sum, norm) => sum + norm, 0);
  const sums = new Float64Array(layout.r * layout.width);
  for (const [k, rows] of trained.entries()) {
    const p = total > 0 ? (norms[k] as number) / total : 1 / trained.length;
    for (let index = 0; index < rows.length; index++) sums[index] = (sums[index] as number) + p * (rows[index] as number);
  }
  return Float32Array.from(sums);
}
