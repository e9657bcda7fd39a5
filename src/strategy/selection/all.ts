import { withPolicy } from "../policy.ts";
import type { Selection } from "../strategy.ts";

/** Every client, every round. */
export function allClients(): Selection {
  return withPolicy({ name: "all" }, ({ clients }) => clients.map(({ id }) => id));
}
