import { type Adapter, prefix } from "../../adapter/adapter.ts";
import type { AdapterLayout } from "../../adapter/layout.ts";
import type { Aggregation, RoundContext, ServerState, Update } from "../strategy.ts";
import { bufferUpdates } from "./buffered-updates.ts";
import { magnitudesOfEach, summedMagnitudes, unitRows } from "./directions.ts";
import { factorise, meanProduct } from "./factorise.ts";

/**
 * FedRoRA (https://arxiv.org/abs/2609.00632): the directions of the mean product are shared, how much of each a client has is its
 * own. We had a description of its equations, not the paper. For every module, with p_k = n_k / Σn over the clients that reported:
 *
 *     U·Σ·Vᵀ = SVD_R(Σ_i p_i·B_i·A_i)          s_ik = u_kᵀ·(B_i·A_i)·v_k, client i's magnitude along u_k·v_kᵀ
 *
 * Client i starts from Σ_k s_ik·u_k·v_kᵀ over the r_i directions with the largest |s_ik|; one that has not reported yet, from the
 * r_i largest singular values. The global adapter has U·Σ·Vᵀ, as FlexLoRA's: it is what each tier is evaluated with and what is
 * saved, while a client's own held-out examples are evaluated with its own adapter.
 *
 * The paper trains unit directions and magnitudes, these at a rate of their own. Ours: LoRA factors at one rate, with
 *
 *     A ← √m·v_k     B ← (s_ik/√m)·u_k          m = max(|s_ik|, σ_k)
 *
 * √|s_ik| in both where a client has at least the mean of a direction. Where it has less, A keeps its length √σ_k and B alone is
 * shorter: with almost nothing in both factors a component could hardly learn. Lengths of factors are thus trained with their
 * directions, and the optimizer sees no magnitudes.
 *
 * Ours, too: a client that was not in a round keeps what it had. Of its product the server knows Σ_j s_ij·u_j·v_jᵀ along the last
 * directions, and takes the magnitudes of that along the new ones. Directions that the mean product lacks keep their A, with B = 0,
 * and come last. The server's state has R values a module for every client that has reported. Work, besides the SVD: R·Σ_i r_i inner
 * products a module.
 */
export function fedRoRA(): Aggregation {
  return {
    policy: { name: "fedrora" },
    distribute: prefix,
    distributeTo({ id, r }, { global, layout, state }) {
      const magnitudes = state[stateName(id)];
      return magnitudes ? withMagnitudes(global, layout, r, magnitudes) : prefix(global, layout, r);
    },
    begin: (context) =>
      bufferUpdates(context, (updates) => {
        const rows = factorise(meanProduct(updates), context.layout, context.global.rows);
        return { rows, state: nextState(context, updates, rows) };
      }),
  };
}

function stateName(clientId: string): string {
  return `magnitudes/${clientId}`;
}

/** The magnitudes of all clients that have ever reported, along the directions of `rows`. */
function nextState({ layout, global, state }: RoundContext, updates: readonly Update[], rows: Float32Array): ServerState {
  const directions = unitRows(rows, layout);
  const own = updates.map(({ clientId, r, received, delta }) => {
    const trained = Float64Array.from(received.rows, (value, index) => value + (delta.rows[index] as number));
    return [stateName(clientId), summedMagnitudes(magnitudesOfEach(directions, trained, layout), r, layout.r)] as const;
  });
  const reported = new Set(own.map(([name]) => name));
  const absent = Object.entries(state).filter(([name]) => !reported.has(name));
  if (absent.length === 0) return Object.fromEntries(own);
  const ofLast = magnitudesOfEach(directions, unitRows(global.rows, layout), layout);
  const carried = absent.map(([name, last]) => [name, summedMagnitudes(ofLast, layout.r, layout.r, last)] as const);
  return Object.fromEntries([...carried, ...own]);
}

/** The r directions along which the magnitudes [modules, R] are largest, module by module, with these magnitudes. */
function withMagnitudes(global: Adapter, { modules, width, r: count }: AdapterLayout, r: number, magnitudes: Float32Array): Adapter {
  const rows = new Float32Array(r * width);
  for (const [index, { offset, in: a, out: b }] of modules.entries()) {
    const own = magnitudes.subarray(index * count, (index + 1) * count);
    for (const [row, k] of largestFirst(own).slice(0, r).entries()) {
      const ofA = global.rows.subarray(k * width + offset, k * width + offset + a);
      const ofB = global.rows.subarray(k * width + offset + a, k * width + offset + a + b);
      // 0 for a direction that the mean product lacks: B is 0 there.
      const share = (own[k] as number) / (lengthOf(ofA) * lengthOf(ofB)) || 0;
      const longer = Math.max(1, Math.sqrt(Math.abs(share)));
      const start = row * width + offset;
      for (let at = 0; at < a; at++) rows[start + at] = longer * (ofA[at] as number);
      for (let at = 0; at < b; at++) rows[start + a + at] = (share / longer) * (ofB[at] as number);
    }
  }
  return { ...global, r, rows };
}

/** Directions by the size of their magnitudes; equal ones in their order. */
function largestFirst(magnitudes: Float32Array): readonly number[] {
  const size = (k: number) => Math.abs(magnitudes[k] as number);
  return Array.from(magnitudes, (_, k) => k).toSorted((x, y) => size(y) - size(x));
}

function lengthOf(vector: Float32Array): number {
  return Math.sqrt(vector.reduce((sum, value) => sum + value * value, 0));
}
