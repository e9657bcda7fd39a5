import type { Adapter } from "../../adapter/adapter.ts";
import type { Aggregation, RoundContext } from "../strategy.ts";
import { afterMeans } from "./after-means.ts";
import { zeroPadDeltas } from "./zero-pad.ts";

/**
 * Random components, after FSLoRA (Fang et al., https://arxiv.org/abs/2501.19389), in which a client of rank r_k trains r_k
 * components of the global adapter drawn at random, S_k, instead of the first ones:
 *
 *     [A; B][j] ← [A; B][j] + Σ_{k: j∈S_k} n_k·Δ_k[j] / Σ_k n_k
 *
 * The paper draws S_k for every client and multiplies its product by R / r_k. Ours: one order of the components is drawn a round, the
 * same for all, of which a client gets the prefix; and all products have the scale s. So no component means more than another,
 * and a truncated adapter has a random part of them.
 */
export function randomComponents(): Aggregation {
  return { ...afterMeans(zeroPadDeltas(), shuffled), policy: { name: "random-components" } };
}

/** The same components in another order. */
export function shuffled(global: Adapter, { layout: { r, width }, rng }: RoundContext): Adapter {
  const order = rng("order of components").shuffle(Array.from({ length: r }, (_, row) => row));
  const rows = new Float32Array(global.rows.length);
  for (const [to, from] of order.entries()) rows.set(global.rows.subarray(from * width, (from + 1) * width), to * width);
  return { ...global, rows };
}
