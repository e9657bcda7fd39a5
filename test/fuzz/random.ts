import type { Rng } from "../../src/base/rng.ts";

/** A whole number in [0, limit). */
export function below(rng: Rng, limit: number): number {
  return Math.floor(rng.next() * limit);
}

export function choose<T>(rng: Rng, items: readonly T[]): T {
  return items[below(rng, items.length)] as T;
}

export function isOdds(rng: Rng, probability: number): boolean {
  return rng.next() < probability;
}
