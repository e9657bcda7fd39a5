import type { RunConfig } from "../config/schema.ts";
import { RunFailedError } from "../errors.ts";
import { callPolicy, describeGiven, namePolicy } from "../strategy/call-policy.ts";
import type { RankedClient, SelectionContext } from "../strategy/strategy.ts";
import { createRng, deriveSeed } from "../base/rng.ts";

/** The clients that train in a round: the strategy's choice, checked and in index order. */
export async function selectClients(
  config: RunConfig,
  { round, clients, ...known }: Omit<SelectionContext, "rng">,
): Promise<readonly RankedClient[]> {
  const rng = (purpose: string) => createRng(deriveSeed(config.seed, "round", round, "policy", purpose));
  const { selection } = config.strategy;
  const subject = `${namePolicy("selection", selection)} of round ${round}`;
  const all = new Set(clients.map(({ id }) => id));
  const losses: SelectionContext["losses"] = async (candidates) => {
    if (Array.isArray(candidates) && candidates.every((client) => all.has(client?.id))) return known.losses(candidates);
    throw new RunFailedError(`${subject} must pass losses() an array of the run's clients, passed ${describeGiven(candidates)}`);
  };
  const context: SelectionContext = { ...known, round, clients, losses, rng };
  const ids = await callPolicy(subject, () => selection(context));
  if (!Array.isArray(ids)) throw new RunFailedError(`${subject} must return an array of client ids, returned ${describeGiven(ids)}`);
  if (ids.length === 0) throw new RunFailedError(`${subject} named no client`);
  const chosen = new Set(ids);
  const selected = clients.filter((client) => chosen.has(client.id));
  if (selected.length !== ids.length) {
    // Each id is removed when it is seen, so one named twice is missing the second time.
    const unseen = new Set(all);
    const wrong = ids.find((id) => !unseen.delete(id));
    throw new RunFailedError(`${subject} must name known clients once each, got ${describeGiven(wrong)}`);
  }
  return Object.freeze(selected);
}
