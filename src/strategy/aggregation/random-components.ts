import type { Adapter } from "../../adapter/adapter.ts";
import type { AdapterLayout } from "../../adapter/layout.ts";
import { createRng, deriveSeed } from "../../base/rng.ts";
import { after } from "../../base/turns.ts";
import type { Aggregation } from "../strategy.ts";
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
  const means = zeroPadDeltas();
  return {
    ...means,
    policy: { name: "random-components" },
    begin(context) {
      const { layout } = context;
      const inner = means.begin(context);
      return {
        ...inner,
        finish: () =>
          after(inner.finish(), (aggregate) => {
            const isIdle = aggregate.coverage.every(({ clients }) => clients === 0);
            return isIdle ? aggregate : { ...aggregate, global: shuffled(aggregate.global, context.fresh(), layout) };
          }),
      };
    },
  };
}

/** The same components in another order. `drawn` depends on the run's seed and the round alone: its bytes are the order's seed. */
function shuffled(global: Adapter, drawn: Float32Array, { r, width }: AdapterLayout): Adapter {
  const bytes = Buffer.from(drawn.buffer, drawn.byteOffset, 4 * width);
  const order = createRng(deriveSeed("order of components", bytes.toString("hex"))).shuffle(Array.from({ length: r }, (_, row) => row));
  const rows = new Float32Array(global.rows.length);
  for (const [to, from] of order.entries()) rows.set(global.rows.subarray(from * width, (from + 1) * width), to * width);
  return { ...global, rows };
}
