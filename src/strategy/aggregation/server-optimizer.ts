import { segments } from "../../adapter/segments.ts";
import { after } from "../../base/turns.ts";
import { requireOption } from "../policy.ts";
import type { Aggregate, Aggregation, RoundContext, ServerState } from "../strategy.ts";

export type ServerOptimizerOptions =
  | { readonly name: "momentum"; readonly lr?: number; readonly momentum?: number }
  | { readonly name: "adagrad"; readonly lr?: number; readonly tau?: number }
  | { readonly name: "adam" | "yogi"; readonly lr?: number; readonly beta1?: number; readonly beta2?: number; readonly tau?: number };

/** Options that are left out, here and in a config. */
export const SERVER_OPTIMIZER_DEFAULTS = {
  momentum: { lr: 1, momentum: 0.9 },
  adagrad: { lr: 0.1, tau: 1e-3 },
  adam: { lr: 0.01, beta1: 0.9, beta2: 0.99, tau: 1e-3 },
  yogi: { lr: 0.01, beta1: 0.9, beta2: 0.99, tau: 1e-3 },
} as const satisfies Record<ServerOptimizerOptions["name"], Readonly<Record<string, number>>>;

/**
 * Treats an aggregation's change, g = next − previous, as the pseudo-gradient of a server optimiser, as in FedAvgM (Hsu et
 * al., https://arxiv.org/abs/1909.06335) and in FedAdagrad, FedAdam and FedYogi (Reddi et al.,
 * https://arxiv.org/abs/2003.00295, Algorithm 2, from v = 0 and without bias correction):
 *
 *     momentum:  v ← β·v + g                                                     x ← x + η·v
 *     adagrad:   v ← v + g²                                                      x ← x + η·g / (√v + τ)
 *     adam:      m ← β1·m + (1 − β1)·g,  v ← β2·v + (1 − β2)·g²                   x ← x + η·m / (√v + τ)
 *     yogi:      m ← β1·m + (1 − β1)·g,  v ← v − (1 − β2)·g²·sign(v − g²)         x ← x + η·m / (√v + τ)
 *
 * A segment that too few clients, or none, trained in a round is not stepped, and its state does not decay. For aggregations
 * whose components keep their meaning from round to round: means of deltas, not those that rotate components by an SVD.
 */
export function withServerOptimizer(aggregation: Aggregation, options: ServerOptimizerOptions): Aggregation {
  requireOptions(options);
  const { step, names } = stepOf(options);
  const name = aggregation.policy?.name ?? "custom";
  return {
    ...aggregation,
    policy: { ...aggregation.policy, name, serverOptimizer: { ...options } },
    begin(context) {
      const inner = aggregation.begin(context);
      const { folds, partialSums } = inner;
      const finish = () => after(inner.finish(), (aggregate) => optimise(context, aggregate, step, names));
      return { ...(folds && { folds }), ...(partialSums && { partialSums }), add: (update) => inner.add(update), finish };
    },
  };
}

/** One value's step from its pseudo-gradient; reads and writes its state at `index`. */
type Step = (state: ServerState, index: number, gradient: number) => number;

function requireOptions({ name, ...options }: ServerOptimizerOptions): void {
  requireOption(Object.hasOwn(DEFAULTS, name), "serverOptimizer.name", `one of ${Object.keys(DEFAULTS).join(", ")}`, name);
  const known = Object.keys(DEFAULTS[name]);
  for (const [key, value] of Object.entries(options) as [string, number | undefined][]) {
    const path = `serverOptimizer.${key}`;
    requireOption(known.includes(key), path, `left out: the options of ${name} are ${known.join(", ")}`, value);
    if (value === undefined) continue;
    if (key === "lr" || key === "tau") requireOption(value > 0, path, "above 0", value);
    else requireOption(value >= 0 && value < 1, path, "at least 0 and below 1", value);
  }
}

/** The step, and the names of the state that it keeps for each value. */
function stepOf(options: ServerOptimizerOptions): { readonly step: Step; readonly names: readonly string[] } {
  switch (options.name) {
    case "momentum":
      return { step: momentumStep(options), names: ["velocity"] };
    case "adagrad":
      return { step: adagradStep(options), names: ["variance"] };
    case "adam":
      return { step: adaptiveStep(options, (variance, square, beta2) => beta2 * variance + (1 - beta2) * square), names: ADAPTIVE };
    case "yogi": {
      const towards = (variance: number, square: number, beta2: number) => variance - (1 - beta2) * square * Math.sign(variance - square);
      return { step: adaptiveStep(options, towards), names: ADAPTIVE };
    }
  }
}

/** How many vectors of the adapter's size its state has. */
export function stateVectors(options: ServerOptimizerOptions): number {
  return stepOf(options).names.length;
}

const ADAPTIVE = ["velocity", "variance"];

const DEFAULTS = SERVER_OPTIMIZER_DEFAULTS;

type Options<Name extends ServerOptimizerOptions["name"]> = Extract<ServerOptimizerOptions, { readonly name: Name }>;

function momentumStep(options: Options<"momentum">): Step {
  const { lr = DEFAULTS.momentum.lr, momentum = DEFAULTS.momentum.momentum } = options;
  return ({ velocity }, index, gradient) => {
    const next = momentum * at(velocity, index) + gradient;
    put(velocity, index, next);
    return lr * next;
  };
}

function adagradStep(options: Options<"adagrad">): Step {
  const { lr = DEFAULTS.adagrad.lr, tau = DEFAULTS.adagrad.tau } = options;
  return ({ variance }, index, gradient) => {
    const sum = at(variance, index) + gradient * gradient;
    put(variance, index, sum);
    return (lr * gradient) / (Math.sqrt(sum) + tau);
  };
}

/** `follow` is what a variance becomes with the next square. */
function adaptiveStep(options: Options<"adam" | "yogi">, follow: (variance: number, square: number, beta2: number) => number): Step {
  const defaults = DEFAULTS[options.name];
  const { lr = defaults.lr, beta1 = defaults.beta1, beta2 = defaults.beta2, tau = defaults.tau } = options;
  return ({ velocity, variance }, index, gradient) => {
    const mean = beta1 * at(velocity, index) + (1 - beta1) * gradient;
    const square = follow(at(variance, index), gradient * gradient, beta2);
    put(velocity, index, mean);
    put(variance, index, square);
    return (lr * mean) / (Math.sqrt(square) + tau);
  };
}

function optimise(
  { layout, global, state }: RoundContext,
  { global: next, coverage, held = [], state: kept }: Aggregate,
  step: Step,
  names: readonly string[],
): Aggregate {
  const size = layout.r * layout.width;
  const copy = (name: string) => state[name]?.slice() ?? new Float32Array(size + layout.denseSize);
  const following = Object.fromEntries(names.map((name) => [name, copy(name)]));
  const move = (target: Float32Array, previous: Float32Array, from: number, to: number, offset: number) => {
    for (let index = from; index < to; index++) {
      const gradient = at(target, index) - at(previous, index);
      target[index] = at(previous, index) + step(following, offset + index, gradient);
    }
  };
  const trained = segments(layout.tiers).filter((_, index) => (coverage[index]?.clients ?? 0) > 0);
  const moved = trained.filter(({ to }) => !held.includes(to));
  for (const { from, to } of moved) move(next.rows, global.rows, from * layout.width, to * layout.width, 0);
  if (trained.length > 0 && !held.includes("dense")) move(next.dense, global.dense, 0, layout.denseSize, size);
  return { global: next, coverage, held, state: { ...kept, ...following } };
}

function at(values: Float32Array | undefined, index: number): number {
  return values?.[index] ?? 0;
}

function put(values: Float32Array | undefined, index: number, value: number): void {
  if (values) values[index] = value;
}
