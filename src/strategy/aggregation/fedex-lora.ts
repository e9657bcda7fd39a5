import { prefix } from "../../adapter/adapter.ts";
import type { AdapterLayout } from "../../adapter/layout.ts";
import type { Aggregation, Update } from "../strategy.ts";
import { bufferUpdates, shares } from "./buffered-updates.ts";
import { appendMerged, presentMerged } from "./merged-components.ts";
import { requireOneRank } from "./one-rank.ts";

/**
 * FedEx-LoRA (Singhal et al., https://arxiv.org/abs/2410.09432): the means of both factors, as in FedIT, and what they leave out
 * of the mean product is added to the base model for good, which makes the sum exact. For clients of one rank.
 *
 *     A ← Σ_k p_k·A_k     B ← Σ_k p_k·B_k     W0 ← W0 + s·(Σ_k p_k·B_k·A_k − B·A)          p_k = n_k / Σ_k n_k
 *
 * Ours: the residual is merged, and sent, as Σ_k p_k·(B_k − B)·(A_k − A), which is the same in Σ_k r components; the paper sends
 * the matrix. What is evaluated at each tier is the prefix of the SVD of all that is merged and of the adapter, as for FLoRA.
 */
export function fedExLora(): Aggregation {
  return {
    policy: { name: "fedex-lora" },
    distribute: prefix,
    begin(context) {
      requireOneRank("FedEx-LoRA", context);
      const { global, layout } = context;
      return bufferUpdates(
        context,
        (updates) => {
          const mean = meanRows(updates);
          const rows = global.rows.slice();
          rows.set(mean);
          return { rows, merged: appendMerged(global.merged, residual(updates, mean, layout), layout) };
        },
        () => ({ rows: global.rows.slice(), merged: appendMerged(global.merged, new Float32Array(0), layout) }),
      );
    },
    present: presentMerged,
  };
}

/** The mean of the clients' rows after their fits. */
function meanRows(updates: readonly Update[]): Float64Array {
  const p = shares(updates);
  const mean = new Float64Array(updates[0]?.delta.rows.length ?? 0);
  for (const [k, update] of updates.entries()) {
    for (let index = 0; index < mean.length; index++) mean[index] = (mean[index] as number) + (p[k] as number) * trained(update, index);
  }
  return mean;
}

/** For every client, in turn, its rows less the mean ones, with B times its share. */
function residual(updates: readonly Update[], mean: Float64Array, { modules, width }: AdapterLayout): Float32Array {
  const p = shares(updates);
  const rows = new Float32Array(updates.length * mean.length);
  for (const [k, update] of updates.entries()) {
    for (let start = 0; start < mean.length; start += width) {
      for (const { offset, in: a, out: b } of modules) {
        const [from, middle] = [start + offset, start + offset + a];
        for (let index = from; index < middle + b; index++) {
          const deviation = trained(update, index) - (mean[index] as number);
          rows[k * mean.length + index] = index < middle ? deviation : (p[k] as number) * deviation;
        }
      }
    }
  }
  return rows;
}

function trained({ received, delta }: Update, index: number): number {
  return (received.rows[index] as number) + (delta.rows[index] as number);
}
