import { ConfigError } from "../errors.ts";
import { callPolicy, describeGiven, namePolicy } from "./call-policy.ts";
import type { Client, PolicyContext, RankAssigner, RankedClient } from "./strategy.ts";

/** Every client with its assigned rank. A rank that is not one of the run's tiers is a ConfigError that names the client. */
export function assignRanks(
  clients: readonly Client[],
  assigner: RankAssigner,
  context: PolicyContext,
  withRank: (client: Client, r: number) => RankedClient = (client, r) => Object.freeze({ ...client, r }),
): readonly RankedClient[] {
  const subject = namePolicy("rank assignment", assigner);
  const ranked = clients.map((client) => {
    const r = callPolicy(`${subject} of client ${client.id}`, () => assigner(client, context));
    if (context.tiers.includes(r)) return withRank(client, r);
    const message = `gave client ${client.id} rank ${describeGiven(r)}, which is not among lora.tiers [${context.tiers.join(", ")}]`;
    throw new ConfigError([{ path: "strategy.rankAssignment", message }]);
  });
  return Object.freeze(ranked);
}
