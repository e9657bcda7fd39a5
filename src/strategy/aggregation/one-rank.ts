import { RefusedError } from "../../errors.ts";
import type { RoundContext } from "../strategy.ts";

/** Throws RefusedError unless all clients of a round have one rank. */
export function requireOneRank(method: string, { clients }: RoundContext): void {
  const ranks = [...new Set(clients.map(({ r }) => r))];
  if (ranks.length > 1) throw new RefusedError(`a round of ${method}`, "clients of one rank", `ranks ${ranks.join(", ")}`);
}
