import { prefix } from "../../adapter/adapter.ts";
import { after, inTurns, type Work } from "../../base/turns.ts";
import type { ProductSvd } from "../../tensor/product-svd.ts";
import { requireOption } from "../policy.ts";
import type { Aggregate, Aggregation, RoundContext, Update } from "../strategy.ts";
import { writeAligned, writeFactors } from "./aligned-factors.ts";
import { bufferUpdates } from "./buffered-updates.ts";
import { changePairs, componentPairs, svdsOfPairs } from "./change-pairs.ts";

export interface ProductDeltasOptions {
  /** β: the share of the velocity V that a round keeps; 0 for none. 0.5 by default. */
  readonly momentum?: number | undefined;
  /** Rank that V is cut to. 2R by default: enough for whatever one client of rank R can change in a round. */
  readonly momentumRank?: number | undefined;
  /** τ: components with a singular value below this share of the largest are left out. 0.001 by default. */
  readonly tau?: number | undefined;
}

/**
 * Ours: the mean change of the product B·A, with momentum, is added to the last product, and the SVD at rank R is the best
 * approximation of the sum at every rank at once. Related: FlexLoRA (https://arxiv.org/abs/2402.11505), which takes the mean
 * of the products themselves, and FedHL (https://arxiv.org/abs/2505.18494). For every module, with p_k = n_k / Σn over the
 * clients that reported, (A, B) as they were received and (A_k, B_k) as client k of rank r_k returned them:
 *
 *     D = Σ_k p_k·(B_k·A_k − B[:, :r_k]·A[:r_k])     V ← β·V + D
 *     U·Σ·Wᵀ = SVD_R(B·A + V)     A ← √Σ·Wᵀ     B ← U·√Σ
 *
 * What a client does not have counts as unchanged, as in zero-padding of deltas, so a segment that nobody trained keeps its
 * part of the product. Components that the sum lacks, and those with σ_j < τ·σ_1, keep their A, with B = 0: with √σ in both
 * factors near zero they could hardly learn. Singular vectors take the signs of the last factors, and equal singular values
 * their order, so that a round without change leaves the factors as they are.
 *
 * A round uses V whole; what the next one continues with is cut to `momentumRank`. `modules_to_save` step by the weighted
 * mean of their changes, with the same momentum, so that a classifier's head keeps pace with the adapter. In a round without
 * reports nothing changes, V included. Memory: every update until the round ends. Work: 20 clients of rank 64 take some 8 s of
 * one core for a module of 4096 × 4096 (AMD EPYC).
 */
export function productDeltas({ momentum = 0.5, momentumRank, tau = 0.001 }: ProductDeltasOptions = {}): Aggregation {
  requireOption(momentum >= 0 && momentum < 1, "momentum", "at least 0 and below 1", momentum);
  const isRank = momentumRank === undefined || (Number.isSafeInteger(momentumRank) && momentumRank >= 1);
  requireOption(isRank, "momentumRank", "a whole number from 1", momentumRank);
  requireOption(tau >= 0 && tau < 1, "tau", "at least 0 and below 1", tau);
  return {
    policy: { name: "product-deltas", momentum, ...(momentumRank !== undefined && { momentumRank }), tau },
    distribute: prefix,
    begin(context) {
      let reported: readonly Update[] = [];
      const { add, finish } = bufferUpdates(context, (updates) => {
        reported = updates;
        return { rows: new Float32Array(context.global.rows.length) };
      });
      const settings = { momentum, momentumRank: momentumRank ?? 2 * context.layout.r, tau };
      return { add, finish: () => after(finish(), (aggregate) => inTurns(step(context, reported, aggregate, settings))) };
    },
  };
}

/** Name of V in the state: rows [momentumRank, width] whose B·A is V, then the velocity of `dense`. */
const VELOCITY = "velocity";

type Settings = { readonly momentum: number; readonly momentumRank: number; readonly tau: number };

/** Completes a round's aggregate with the next rows, and with the next state if there is momentum. */
function* step(context: RoundContext, updates: readonly Update[], aggregate: Aggregate, settings: Settings): Work<Aggregate> {
  const { layout, global, state } = context;
  const { momentum, momentumRank, tau } = settings;
  if (updates.length === 0) return momentum > 0 ? { ...aggregate, state } : aggregate;
  const { modules, width, denseSize, r } = layout;
  const { rows } = aggregate.global;
  const velocity = momentum > 0 ? new Float32Array(momentumRank * width + denseSize) : undefined;
  const before = state[VELOCITY]?.subarray(0, momentumRank * width) ?? new Float32Array(0);
  for (const module of modules) {
    const place = { ...module, width };
    const change = [...changePairs(updates, module, width), ...componentPairs(before, momentum, module, width)];
    const pairs = [...change, ...componentPairs(global.rows, 1, module, width)];
    const parts = [{ count: pairs.length, most: r }, ...(velocity ? [{ count: change.length, most: momentumRank }] : [])];
    const [next, changed] = svdsOfPairs(pairs, module, parts) as [ProductSvd, ProductSvd | undefined];
    writeAligned(rows, above(tau, next, module.out, module.in), global.rows, place);
    if (velocity && changed) writeFactors(velocity, changed, place);
    if (pairs.length * (module.in + module.out) > LONG) yield;
  }
  return velocity ? withDense(context, aggregate, momentum, velocity) : aggregate;
}

/** Values of a module's vectors whose SVD keeps the event loop waiting for long. */
const LONG = 2 ** 18;

/** The triplets with σ_j ≥ τ·σ_1. */
function above(tau: number, { values, left, right }: ProductSvd, out: number, a: number): ProductSvd {
  const least = tau * (values[0] ?? 0);
  const count = values.filter((value) => value >= least).length;
  return { values: values.subarray(0, count), left: left.subarray(0, count * out), right: right.subarray(0, count * a) };
}

/** x ← x + v with v ← β·v + the mean change, for `dense`; its v goes to the end of `velocity`. */
function withDense({ layout, global, state }: RoundContext, aggregate: Aggregate, momentum: number, velocity: Float32Array): Aggregate {
  const start = velocity.length - layout.denseSize;
  const dense = global.dense.map((last, index) => {
    const change = momentum * (state[VELOCITY]?.[start + index] ?? 0) + ((aggregate.global.dense[index] as number) - last);
    velocity[start + index] = change;
    // -0 + 0 would be +0.
    return change === 0 ? last : last + change;
  });
  return { ...aggregate, global: { ...aggregate.global, dense }, state: { [VELOCITY]: velocity } };
}
