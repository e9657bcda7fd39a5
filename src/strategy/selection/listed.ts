import { ConfigError } from "../../errors.ts";
import { requireOption, withPolicy } from "../policy.ts";
import type { Selection } from "../strategy.ts";

/** The same clients every round, by id: how a federation does without the others. */
export function listedClients(ids: readonly string[]): Selection {
  requireOption(ids.length > 0 && new Set(ids).size === ids.length, "listedClients.clients", "at least one id, each once", ids);
  const listed = new Set(ids);
  return withPolicy({ name: "list", clients: [...ids] }, ({ clients }) => {
    const found = clients.filter(({ id }) => listed.has(id)).map(({ id }) => id);
    if (found.length === ids.length) return found;
    const known = new Set(found);
    const unknown = ids.find((id) => !known.has(id));
    const message = `names ${unknown}; the clients are ${clients[0]?.id} to ${clients.at(-1)?.id}`;
    throw new ConfigError([{ path: "strategy.selection.clients", message }]);
  });
}
