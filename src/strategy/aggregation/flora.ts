import { type Adapter, type Merged, prefix } from "../../adapter/adapter.ts";
import type { AdapterLayout } from "../../adapter/layout.ts";
import type { Aggregation, Update } from "../strategy.ts";
import { componentsOf, factorise } from "./factorise.ts";
import { bufferUpdates, shares } from "./buffered-updates.ts";

/**
 * FLoRA (Wang et al., https://arxiv.org/abs/2409.05976): the clients' factors, stacked, are the mean product exactly. The
 * stack is merged into the base model for good, and the next round starts from A newly drawn and B = 0.
 *
 *     W0 ← W0 + s·[p_1·B_1 │ … │ p_K·B_K]·[A_1; …; A_K] = W0 + Σ_k p_k·s·B_k·A_k          p_k = n_k / Σ_k n_k
 *
 * (The paper scales A by p_k; the product is the same.) A client receives its prefix of the new adapter and all that
 * is merged: Σ_k r_k components a round. The PEFT adapters of the run's ranks are prefixes of the SVD of the whole stack;
 * its cost grows with the square of the components merged until they reach the module's size.
 */
export function fLoRA(): Aggregation {
  return {
    policy: { name: "flora" },
    distribute: prefix,
    begin(context) {
      const { global, layout } = context;
      return bufferUpdates(
        context,
        (updates) => ({ rows: context.fresh(), merged: merge(global.merged, updates, layout) }),
        () => ({ rows: global.rows.slice(), merged: merge(global.merged, [], layout) }),
      );
    },
    present,
  };
}

/** The SVD of all that is merged and of the rows, at rank R, with nothing merged. */
function present(global: Adapter, layout: AdapterLayout): Adapter {
  const { r, rows, dense, merged } = global;
  if (!merged) return global;
  const components = [...componentsOf(merged.rows, layout.width), ...componentsOf(rows, layout.width)];
  return { r, rows: factorise(components, layout, rows), dense };
}

function merge(previous: Merged | undefined, updates: readonly Update[], layout: AdapterLayout): Merged {
  const { rows: before, ends } = previous ?? { rows: new Float32Array(0), ends: [0] };
  const p = shares(updates);
  const added = updates.reduce((sum, { delta }) => sum + delta.rows.length, 0);
  const rows = new Float32Array(before.length + added);
  rows.set(before);
  let at = before.length;
  for (const [index, update] of updates.entries()) {
    writeTrained(rows.subarray(at, at + update.delta.rows.length), update, p[index] as number, layout);
    at += update.delta.rows.length;
  }
  return { rows, ends: [...ends, rows.length / layout.width] };
}

/** target ← the client's adapter after its fit, with the B of every module times p. */
function writeTrained(target: Float32Array, { received, delta }: Update, p: number, { modules, width }: AdapterLayout): void {
  for (let start = 0; start < target.length; start += width) {
    for (const { offset, in: a, out: b } of modules) {
      for (let index = start + offset; index < start + offset + a + b; index++) {
        const trained = (received.rows[index] as number) + (delta.rows[index] as number);
        target[index] = index < start + offset + a ? trained : p * trained;
      }
    }
  }
}
