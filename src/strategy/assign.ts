import { ConfigError } from "../errors.ts";
import type { Client, PolicyContext, RankAssigner, RankedClient } from "./strategy.ts";

/** Every client with the rank it was given. A rank that is no tier of the run is a ConfigError that names the client. */
export function assignRanks(clients: readonly Client[], assigner: RankAssigner, context: PolicyContext): RankedClient[] {
  return clients.map((client) => {
    const r = assigner(client, context);
    if (context.tiers.includes(r)) return { ...client, r };
    const message = `gave client ${client.id} rank ${r}, which is not among lora.tiers [${context.tiers.join(", ")}]`;
    throw new ConfigError([{ path: "strategy.rankAssignment", message }]);
  });
}
