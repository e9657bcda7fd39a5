import type { RunConfig } from "../config/schema.ts";
import { RunFailedError } from "../errors.ts";
import { callPolicy, describeGiven, namePolicy } from "../strategy/call-policy.ts";
import type { ClientColumns } from "../protocol/client-columns.ts";
import type { RankedClient, SelectionContext } from "../strategy/strategy.ts";
import { createRng, deriveSeed } from "../base/rng.ts";

/** The clients that train in a round: the strategy's choice, checked and in index order. */
export async function selectClients(
  config: RunConfig,
  { round, clients, indexOf, ...known }: Omit<SelectionContext, "rng"> & Pick<ClientColumns, "indexOf">,
): Promise<readonly RankedClient[]> {
  const rng = (purpose: string) => createRng(deriveSeed(config.seed, "round", round, "policy", purpose));
  const { selection } = config.strategy;
  const subject = `${namePolicy("selection", selection)} of round ${round}`;
  const losses: SelectionContext["losses"] = async (candidates) => {
    if (Array.isArray(candidates) && candidates.every((client) => indexOf(client?.id) >= 0)) return known.losses(candidates);
    throw new RunFailedError(`${subject} must pass losses() an array of the run's clients, passed ${describeGiven(candidates)}`);
  };
  const context: SelectionContext = { ...known, round, clients, losses, rng };
  const ids = await callPolicy(subject, () => selection(context));
  if (!Array.isArray(ids)) throw new RunFailedError(`${subject} must return an array of client ids, returned ${describeGiven(ids)}`);
  if (ids.length === 0) throw new RunFailedError(`${subject} named no client`);
  // By index, so that the work does not grow with the clients that are not selected.
  const chosen = new Set<number>();
  for (const id of ids as readonly unknown[]) {
    const index = indexOf(id);
    if (index < 0 || chosen.has(index)) {
      throw new RunFailedError(`${subject} must name known clients once each, got ${describeGiven(id)}`);
    }
    chosen.add(index);
  }
  const inOrder = Uint32Array.from(chosen).toSorted();
  return Object.freeze(Array.from(inOrder, (index) => clients[index] as RankedClient));
}
