import type { AdapterLayout } from "../../adapter/layout.ts";
import type { Accumulator, RoundContext, Update } from "../strategy.ts";
import { bufferUpdates, shares } from "./buffered-updates.ts";
import { componentsOf, factorise, trainedComponents } from "./factorise.ts";
import { appendMerged } from "./merged-components.ts";

/**
 * A round of FLoRA that merges at most q components. What does not fit is kept at the server and added to the next round's sum,
 * as in error feedback (Seide et al., https://doi.org/10.21437/Interspeech.2014-274; Karimireddy et al.,
 * https://arxiv.org/abs/1901.09847):
 *
 *     U·Σ·Wᵀ = SVD of E + Σ_k p_k·B_k·A_k     W0 ← W0 + s·(its first q components)     E ← the next 2R components
 *
 * A client downloads q components a round instead of Σ_k r_k, besides its prefix. The next round goes on with the A that the
 * clients trained, every component averaged over those that have it, and B = 0. A round without reports merges nothing.
 */
export function boundedMerge(context: RoundContext, q: number): Accumulator {
  const { global, layout, state } = context;
  return bufferUpdates(
    context,
    (updates) => {
      const p = shares(updates);
      const trained = updates.flatMap((update, k) => trainedComponents(update, p[k] as number));
      const kept = componentsOf(state[ERROR] ?? new Float32Array(0), layout.width);
      const r = q + 2 * layout.r;
      const rows = factorise([...kept, ...trained], { ...layout, r }, new Float32Array(r * layout.width));
      return {
        rows: carriedOver(global.rows, updates, layout),
        merged: appendMerged(global.merged, rows.subarray(0, q * layout.width), layout),
        state: { [ERROR]: rows.slice(q * layout.width) },
      };
    },
    () => ({ rows: global.rows.slice(), merged: appendMerged(global.merged, new Float32Array(0), layout), state }),
  );
}

/** Name of E in the state: rows [2R, width] whose B·A is E. */
const ERROR = "unmerged";

/** The mean of A over the clients that trained a component, n_k-weighted, and B = 0; the previous A where nobody did. */
function carriedOver(previous: Float32Array, updates: readonly Update[], { r: largest, width, modules }: AdapterLayout): Float32Array {
  const rows = new Float32Array(previous.length);
  for (let row = 0; row < largest; row++) {
    const trained = updates.filter(({ r }) => r > row);
    const p = shares(trained);
    for (const { offset, in: a } of modules) {
      for (let index = row * width + offset; index < row * width + offset + a; index++) {
        const last = previous[index] as number;
        const mean = (sum: number, { received, delta }: Update, k: number) =>
          sum + (p[k] as number) * ((received.rows[index] as number) + (delta.rows[index] as number));
        rows[index] = trained.length > 0 ? trained.reduce(mean, 0) : last;
      }
    }
  }
  return rows;
}
