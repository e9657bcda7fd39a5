import { mergesIntoBase } from "../config/policy-rules.ts";
import type { RunConfig } from "../config/schema.ts";
import { ConfigError } from "../errors.ts";
import { type ClusterRoom, clusterRoom } from "../ray/cluster-room.ts";
import { RayError } from "../ray/ray-error.ts";
import type { RankedClient } from "../strategy/strategy.ts";

/** Where workers would run that do not run on this machine. */
export interface Machines {
  /** Those that the config lists; null where the command or the cluster decides. */
  readonly hosts: readonly string[] | null;
  /**
   * Tensor bytes of all fits to each machine, at most: an adapter is sent to a machine once, however many of its workers train
   * clients. Null where a client is sent what others are not: with FLoRA and FedEx-LoRA merged components, with
   * `fit.client_state: keep` the state of its optimizer.
   */
  readonly bytesDown: number | null;
  /** What would be asked of a cluster, and what it has. */
  readonly cluster: Cluster | null;
}

interface Cluster extends ClusterRoom {
  readonly address: string;
  readonly resources: Readonly<Record<string, number>>;
  readonly asked: { readonly min: number; readonly max: number };
}

/** Undefined if the workers would run here. Rejects with a ConfigError if the cluster does not answer. */
export async function machinesOf(
  config: RunConfig,
  selections: readonly (readonly RankedClient[])[],
  bytesDown: (r: number) => number,
): Promise<Machines | undefined> {
  const { command, hosts, cluster } = config.workers;
  if (!command && !cluster) return undefined;
  const isPerClient = mergesIntoBase(config.strategy.aggregation) || config.fit.clientState === "keep";
  // Not by spreading: a million clients may be selected.
  const largest = (selected: readonly RankedClient[]) => selected.reduce((most, { r }) => Math.max(most, bytesDown(r)), 0);
  const most = selections.reduce((sum, selected) => sum + largest(selected), 0);
  return { hosts: hosts ?? null, bytesDown: isPerClient ? null : most, cluster: cluster ? await ask(cluster) : null };
}

async function ask({ address, tokenFile, resources, count }: NonNullable<RunConfig["workers"]["cluster"]>): Promise<Cluster> {
  const asked = typeof count === "number" ? { min: 1, max: count } : count;
  try {
    return { ...(await clusterRoom({ address, tokenFile }, resources)), address, resources, asked };
  } catch (error) {
    if (!(error instanceof RayError)) throw error;
    throw new ConfigError([{ path: error.option, message: error.message }]);
  }
}
