import type { Client, PolicyContext } from "../strategy.ts";

/** Decides all clients' ranks at once, though it is asked for one: what was decided for a run is kept. */
export function jointly(decide: (context: PolicyContext) => readonly number[]): (client: Client, context: PolicyContext) => number {
  const decided = new WeakMap<PolicyContext, readonly number[]>();
  return (client, context) => {
    const ranks = decided.get(context) ?? decide(context);
    decided.set(context, ranks);
    return ranks[client.index] as number;
  };
}
