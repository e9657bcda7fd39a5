import { requireClients } from "../config/client-rules.ts";
import type { RunConfig } from "../config/schema.ts";
import { createRng, deriveSeed } from "../base/rng.ts";
import { type ClientColumns, labelCountsOf } from "../protocol/client-columns.ts";
import { assignRanks } from "../strategy/assign.ts";
import type { Client, ClientProfile, RankedClient } from "../strategy/strategy.ts";

/** The run's clients as policies see them, with their ranks before round 1. Throws a ConfigError if the config does not allow them. */
export function rankClients(
  config: RunConfig,
  tiers: readonly number[],
  columns: ClientColumns,
  labels: readonly string[],
): readonly RankedClient[] {
  requireClients(config, columns.ids.length);
  const describe = clientsOf(columns, labels.length, config.data.profiles);
  const clients = Object.freeze(columns.ids.map((_, index): Client => describe(index, {})));
  return assignRanks(
    clients,
    config.strategy.rankAssignment,
    { clients, tiers, rng: (purpose) => createRng(deriveSeed(config.seed, "policy", purpose)) },
    ({ index }, r) => describe(index, { r }),
  );
}

/**
 * Makes clients. Frozen, since policies get them and must not change the run. A client's label counts are read from the columns when
 * somebody asks for them: with a million clients and many labels, lists of them would not fit into memory.
 */
export function clientsOf(
  columns: Pick<ClientColumns, "ids" | "n" | "labelCounts">,
  labels: number,
  profiles: readonly ClientProfile[] | undefined,
): <T extends object>(index: number, more: T, read?: PropertyDescriptorMap) => Client & T {
  const labelCounts = readsColumns((index) => (labels === 0 ? NOTHING : labelCountsOf(columns.labelCounts, index, labels)));
  return <T extends object>(index: number, more: T, read: PropertyDescriptorMap = {}) => {
    const profile = profiles ? Object.freeze({ ...profiles[index] }) : UNDECLARED;
    const client = { id: columns.ids[index] as string, index, size: columns.n[index] as number, profile, ...more };
    return Object.freeze(Object.defineProperties(client, { ...read, labelCounts })) as unknown as Client & T;
  };
}

/** A property that is read when somebody asks for it. The clients share it, so that it costs each of them nothing. */
export function readsColumns(read: (index: number) => unknown): PropertyDescriptor {
  return {
    enumerable: true,
    get(this: Client): unknown {
      return read(this.index);
    },
  };
}

const NOTHING: Client["labelCounts"] = Object.freeze([]);
const UNDECLARED: ClientProfile = Object.freeze({});
