import type { ClientHistory, RankedClient, SelectionContext } from "../../../src/strategy/strategy.ts";
import { createRng, deriveSeed } from "../../../src/base/rng.ts";

/** Clients c0, c1, … of 10 examples at rank 1, but for what is given of each. */
export function clientsOf(given: readonly Partial<RankedClient>[]): readonly RankedClient[] {
  return given.map((own, index) => ({ id: `c${index}`, index, size: 10, r: 1, labelCounts: [], profile: {}, ...own }));
}

/** A context in which nobody has reported and every loss is 1, but for what is given. */
export function selectionContext(
  clients: readonly RankedClient[],
  given: Partial<Omit<SelectionContext, "history">> & { seed?: number; history?: Readonly<Record<string, ClientHistory>> } = {},
): SelectionContext {
  const { seed = 0, round = 1, history = {}, ...rest } = given;
  return {
    clients,
    round,
    tiers: [...new Set(clients.map(({ r }) => r))].toSorted((one, other) => one - other),
    rng: (purpose) => createRng(deriveSeed(seed, "round", round, "policy", purpose)),
    losses: async (candidates) => candidates.map(() => 1),
    ...rest,
    history: new Map(Object.entries(history)),
  };
}
