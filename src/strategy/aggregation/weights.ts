import type { RankedClient } from "../strategy.ts";

/** w_k: "examples" weights a client by n_k, its training examples; "uniform" gives all the same weight. */
export type Weights = "examples" | "uniform";

/** Σ w_k. */
export type Weigh = (clients: readonly Pick<RankedClient, "size">[]) => number;

export function weighBy(weights: Weights): Weigh {
  return weights === "uniform" ? (clients) => clients.length : (clients) => clients.reduce((sum, { size }) => sum + size, 0);
}
