import type { AdapterLayout } from "../adapter/layout.ts";
import { initialAdapter } from "../adapter/initialise.ts";
import { createRng, deriveSeed, type Rng } from "../base/rng.ts";
import type { Client, ClientHistory, PolicyContext, RankedClient, RoundContext, SelectionContext } from "../strategy/strategy.ts";

/** A generator for tests, with a separate stream for each seed and purpose. */
export function seededRng(seed: number | string = 0, purpose = "test"): Rng {
  return createRng(deriveSeed(seed, purpose));
}

/** Clients c0, c1, …, by default with 10 examples and rank 1. */
export function clientsOf(given: readonly Partial<RankedClient>[]): readonly RankedClient[] {
  return given.map((own, index) => ({ id: `c${index}`, index, size: 10, r: 1, labelCounts: [], profile: {}, ...own }));
}

/** The context of a rank assigner. */
export function rankContext(
  clients: readonly Client[],
  { seed = 0, tiers = [1, 2, 4] }: { readonly seed?: number; readonly tiers?: readonly number[] } = {},
): PolicyContext {
  return { clients, tiers, rng: (purpose) => createRng(deriveSeed(seed, "policy", purpose)) };
}

export interface SelectionContextOptions extends Partial<Omit<SelectionContext, "history" | "clients">> {
  readonly seed?: number;
  /** By client id. */
  readonly history?: Readonly<Record<string, ClientHistory>>;
}

/** The context of a selection: by default round 1, with no reports yet and every loss 1. */
export function selectionContext(clients: readonly RankedClient[], options: SelectionContextOptions = {}): SelectionContext {
  const { seed = 0, round = 1, history = {}, ...rest } = options;
  return {
    clients,
    round,
    tiers: [...new Set(clients.map(({ r }) => r))].toSorted((a, b) => a - b),
    rng: (purpose) => createRng(deriveSeed(seed, "round", round, "policy", purpose)),
    losses: async (candidates) => candidates.map(() => 1),
    ...rest,
    history: new Map(Object.entries(history)),
  };
}

export interface RoundContextOptions extends Partial<Omit<RoundContext, "layout" | "clients">> {
  readonly seed?: number;
}

/** The context of an aggregation: by default round 1 of a new adapter (A random, B = 0, `dense` all 0). */
export function roundContext(layout: AdapterLayout, clients: readonly RankedClient[], options: RoundContextOptions = {}): RoundContext {
  const { seed = 0, ...given } = options;
  const rng = (purpose: string) => createRng(deriveSeed(seed, "aggregation", purpose));
  const draw = (purpose: string) => initialAdapter(layout, new Float32Array(layout.denseSize), deriveSeed(seed, purpose));
  const global = given.global ?? draw("adapter");
  return { round: 1, layout, clients, state: {}, fresh: () => draw("fresh").rows, rng, ...given, global };
}
