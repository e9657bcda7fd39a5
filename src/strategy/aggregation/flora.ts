import { prefix } from "../../adapter/adapter.ts";
import type { AdapterLayout } from "../../adapter/layout.ts";
import { requireOption } from "../policy.ts";
import type { Accumulator, Aggregation, RoundContext, Update } from "../strategy.ts";
import { boundedMerge } from "./bounded-merge.ts";
import { bufferUpdates, shares } from "./buffered-updates.ts";
import { appendMerged, presentMerged } from "./merged-components.ts";

export interface FLoRAOptions {
  /** q: components that a round merges, at most; see bounded-merge.ts. All by default. */
  readonly incrementRank?: number | undefined;
}

/**
 * FLoRA (Wang et al., https://arxiv.org/abs/2409.05976): the clients' factors, stacked, are the mean product exactly. The
 * stack is merged into the base model for good, and the next round starts from A newly drawn and B = 0.
 *
 *     W0 ← W0 + s·[p_1·B_1 │ … │ p_K·B_K]·[A_1; …; A_K] = W0 + Σ_k p_k·s·B_k·A_k          p_k = n_k / Σ_k n_k
 *
 * (The paper scales A by p_k; the product is the same.) A client receives its prefix of the new adapter and all that
 * is merged: Σ_k r_k components a round. The PEFT adapters of the run's ranks are prefixes of the SVD of the whole stack;
 * its cost grows with the square of the components merged until they reach the module's size.
 *
 * Ours, not the paper's: with `incrementRank` a round merges at most q components and carries the rest over.
 */
export function fLoRA({ incrementRank }: FLoRAOptions = {}): Aggregation {
  const isRank = incrementRank === undefined || (Number.isSafeInteger(incrementRank) && incrementRank >= 1);
  requireOption(isRank, "incrementRank", "a whole number from 1", incrementRank);
  return {
    policy: { name: "flora", ...(incrementRank !== undefined && { incrementRank }) },
    distribute: prefix,
    begin: (context) => (incrementRank === undefined ? mergeAll(context) : boundedMerge(context, incrementRank)),
    present: presentMerged,
  };
}

function mergeAll(context: RoundContext): Accumulator {
  const { global, layout } = context;
  return bufferUpdates(
    context,
    (updates) => ({ rows: context.fresh(), merged: appendMerged(global.merged, stack(updates, layout), layout) }),
    () => ({ rows: global.rows.slice(), merged: appendMerged(global.merged, new Float32Array(0), layout) }),
  );
}

/** The clients' rows, one after the other, with B times the client's share. */
function stack(updates: readonly Update[], layout: AdapterLayout): Float32Array {
  const p = shares(updates);
  const rows = new Float32Array(updates.reduce((sum, { delta }) => sum + delta.rows.length, 0));
  let at = 0;
  for (const [index, update] of updates.entries()) {
    writeTrained(rows.subarray(at, at + update.delta.rows.length), update, p[index] as number, layout);
    at += update.delta.rows.length;
  }
  return rows;
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
