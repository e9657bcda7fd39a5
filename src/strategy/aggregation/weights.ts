import type { RankedClient } from "../strategy.ts";

/** w_k: "examples" weighs a client by n_k, its training examples; "uniform" weighs all alike. */
export type Weights = "examples" | "uniform";

/** Σ w_k. */
export type Weigh = (clients: readonly Pick<RankedClient, "size">[]) => number;

export function weighBy(weights: Weights): Weigh {
  return weights === "uniform" ? (clients) => clients.length : (clients) => clients.reduce((sum, { size }) => sum + size, 0);
}
