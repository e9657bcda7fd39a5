import type { Adapter } from "../adapter/adapter.ts";
import type { AdapterShape } from "../adapter/layout.ts";
import { createRng, deriveSeed } from "../base/rng.ts";
import type { ControllerMessageOf } from "../protocol/messages.ts";
import { type Example, FEATURES, LABELS } from "./tiny-data.ts";

/*
 * Softmax regression with one adapted weight: logits = (W0 + s·B·A)·x + bias, where W0 [labels, features] is frozen and the
 * bias, where it is trained, is the adapter's dense part. Row j of an adapter is A[j, :] and then B[:, j].
 */
export const WIDTH = FEATURES + LABELS.length;

export interface TinyModel {
  /** W0, row by row. */
  readonly base: Float64Array;
  readonly shape: AdapterShape;
  /** Ranks that clients may train at, ascending. */
  readonly tiers: readonly number[];
}

export function createTinyModel(
  seed: string,
  { tiers, trainsBias }: { readonly tiers: readonly number[]; readonly trainsBias: boolean },
): TinyModel {
  const rng = createRng(deriveSeed(seed, "base"));
  return {
    base: Float64Array.from({ length: LABELS.length * FEATURES }, () => 0.2 * rng.next() - 0.1),
    shape: {
      modules: [{ name: "linear", in: FEATURES, out: LABELS.length }],
      dense: trainsBias ? [{ name: "head.bias", shape: [LABELS.length] }] : [],
    },
    tiers,
  };
}

/** The same model with components merged into its base, as FLoRA sends them. */
export function withMerged(model: TinyModel, merged: Float32Array, scale: number): TinyModel {
  const base = model.base.slice();
  for (let row = 0; row < merged.length; row += WIDTH) {
    for (let label = 0; label < LABELS.length; label++) {
      for (let i = 0; i < FEATURES; i++) base[label * FEATURES + i]! += scale * merged[row + FEATURES + label]! * merged[row + i]!;
    }
  }
  return { ...model, base };
}

export interface Judged {
  /** A·x */
  readonly hidden: readonly number[];
  readonly probabilities: readonly number[];
  readonly loss: number;
  readonly predicted: number;
}

/** One example under the rank-r prefix of an adapter. */
export function judge(
  { base }: TinyModel,
  { rows, dense }: Adapter,
  { r, scale }: { readonly r: number; readonly scale: number },
  { x, y }: Example,
): Judged {
  const hidden = Array.from({ length: r }, (_, j) => x.reduce((sum, value, i) => sum + value * rows[j * WIDTH + i]!, 0));
  const logits = LABELS.map((_, label) => {
    const frozen = x.reduce((sum, value, i) => sum + value * base[label * FEATURES + i]!, dense[label] ?? 0);
    return frozen + scale * hidden.reduce((sum, value, j) => sum + value * rows[j * WIDTH + FEATURES + label]!, 0);
  });
  const largest = Math.max(...logits);
  const total = logits.reduce((sum, value) => sum + Math.exp(value - largest), 0);
  const probabilities = logits.map((value) => Math.exp(value - largest) / total);
  return { hidden, probabilities, loss: -Math.log(Math.max(probabilities[y]!, 1e-30)), predicted: logits.indexOf(largest) };
}

export interface TinyTraining {
  readonly request: ControllerMessageOf<"fit">;
  readonly examples: readonly Example[];
  readonly received: Adapter;
  /** The model in steps in which what is merged does not act. */
  readonly asLoaded: TinyModel;
  /** Called before every step; may throw to cancel the fit. */
  beforeStep(step: number): Promise<void>;
}

export interface Trained {
  readonly delta: Adapter;
  /** Mean loss of each step. */
  readonly losses: readonly number[];
  /** Joint norm of the gradients of each step, before clipping. */
  readonly norms: readonly number[];
  readonly passes: number;
}

/**
 * Gradient descent on the client's rank and the truncations below it. `sum`, `sampled` and `stratified` all minimise the
 * weighted mean over the truncations, which the last two only estimate in a real worker. Ignores `optimizer`, `tail_penalty` and other
 * regularisation, and warmup within a fit.
 */
export async function trainTiny(model: TinyModel, { request, examples, received, asLoaded, beforeStep }: TinyTraining): Promise<Trained> {
  const { local_steps, batch_size, gradient_accumulation_steps, max_grad_norm, acting_tail } = request.fit;
  const truncations = truncationsOf(model, request);
  const rng = createRng(deriveSeed(request.seed, "batches"));
  const adapter = { r: request.r, rows: received.rows.slice(), dense: received.dense.slice() };
  const [losses, norms]: [number[], number[]] = [[], []];
  for (let step = 0; step < local_steps; step++) {
    await beforeStep(step);
    const batch = Array.from(
      { length: batch_size * gradient_accumulation_steps },
      () => examples[Math.floor(rng.next() * examples.length)]!,
    );
    const acts = Math.floor((step + 1) * acting_tail) > Math.floor(step * acting_tail);
    const gradient = gradientOf(acts ? model : asLoaded, adapter, { batch, truncations, scale: request.scale });
    losses.push(gradient.loss);
    const norm = Math.hypot(...gradient.rows.filter((_, index) => rateOf(request.fit, index) > 0), ...gradient.dense);
    norms.push(norm);
    const kept = max_grad_norm > 0 ? Math.min(1, max_grad_norm / norm) : 1;
    for (const index of adapter.rows.keys()) adapter.rows[index]! -= rateOf(request.fit, index) * kept * gradient.rows[index]!;
    for (const index of adapter.dense.keys()) adapter.dense[index]! -= request.fit.head_lr * kept * gradient.dense[index]!;
  }
  const minus = (after: Float32Array, before: Float32Array) => after.map((value, index) => value - before[index]!);
  const delta = { r: request.r, rows: minus(adapter.rows, received.rows), dense: minus(adapter.dense, received.dense) };
  return { delta, losses, norms, passes: local_steps * truncations.length };
}

/** The learning rate of a value of `rows`; 0 if it does not train. */
function rateOf({ lr, lr_b: ofB, freeze_a, components }: ControllerMessageOf<"fit">["fit"], index: number): number {
  if (components && !components.includes(Math.floor(index / WIDTH))) return 0;
  if (index % WIDTH >= FEATURES) return ofB;
  return freeze_a ? 0 : lr;
}

interface Truncation {
  readonly r: number;
  readonly weight: number;
}

function truncationsOf({ tiers }: TinyModel, { r, fit: { objective, full_weight } }: ControllerMessageOf<"fit">): readonly Truncation[] {
  const lower = objective === "none" ? [] : tiers.filter((tier) => tier < r);
  const own = lower.length === 0 ? 1 : (full_weight ?? 1 / (lower.length + 1));
  return [...lower.map((tier) => ({ r: tier, weight: (1 - own) / lower.length })), { r, weight: own }];
}

function gradientOf(
  model: TinyModel,
  adapter: Adapter,
  {
    batch,
    truncations,
    scale,
  }: { readonly batch: readonly Example[]; readonly truncations: readonly Truncation[]; readonly scale: number },
): { readonly rows: Float64Array; readonly dense: Float64Array; readonly loss: number } {
  const [rows, dense] = [new Float64Array(adapter.rows.length), new Float64Array(adapter.dense.length)];
  let loss = 0;
  for (const example of batch) {
    for (const { r, weight } of truncations) {
      const judged = judge(model, adapter, { r, scale }, example);
      const share = weight / batch.length;
      const errors = judged.probabilities.map((value, label) => share * (value - (label === example.y ? 1 : 0)));
      loss += share * judged.loss;
      for (const index of dense.keys()) dense[index]! += errors[index]!;
      for (let j = 0; j < r; j++) {
        const back = errors.reduce((sum, error, label) => sum + error * adapter.rows[j * WIDTH + FEATURES + label]!, 0);
        for (let i = 0; i < FEATURES; i++) rows[j * WIDTH + i]! += scale * back * example.x[i]!;
        for (const [label, error] of errors.entries()) rows[j * WIDTH + FEATURES + label]! += scale * error * judged.hidden[j]!;
      }
    }
  }
  return { rows, dense, loss };
}

/** Null for a number that is not finite, as the wire requires. */
export function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

/** The reported seconds of every task: fixed, so that tests do not depend on a clock. */
export const SECONDS = 0.001;
