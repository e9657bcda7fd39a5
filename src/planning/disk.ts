import type { AdapterLayout } from "../adapter/layout.ts";
import type { RunConfig } from "../config/schema.ts";
import { type ServerOptimizerOptions, stateVectors } from "../strategy/aggregation/server-optimizer.ts";
import type { RankedClient } from "../strategy/strategy.ts";
import { stateLengthIn } from "../server/task-requests.ts";

/** Tensor bytes that a run's folder takes at most. The files' heads, some KB each, and the records come on top. */
export interface Disk {
  /** Rounds whose files are there at once, with round 0, and while one is being added to those that are kept. */
  readonly rounds: number;
  /** All of these rounds' adapters, with the server's state of built-in aggregations. */
  readonly roundBytes: number;
  /** Updates of all rounds with `record_updates`, else those of the largest round, up to `spool_bytes`. */
  readonly updateBytes: number;
  /** With `fit.client_state: keep`, the optimizers' states of all clients that train, and of the largest round's fits beside them. */
  readonly stateBytes: number;
  /** PEFT adapters at every tier, of the last round and, if one is marked, of the best. */
  readonly adapterBytes: number;
}

interface Planned {
  readonly layout: AdapterLayout;
  readonly tiers: readonly number[];
  /** The clients of each round, from the first. */
  readonly selections: readonly (readonly RankedClient[])[];
  /** Rows that are merged into the base after each round, from the first. */
  readonly merged: readonly number[];
  /** Tensor bytes of an update at a rank. */
  updateBytes(r: number): number;
}

export function diskOf(config: RunConfig, { layout, tiers, selections, merged, updateBytes }: Planned): Disk {
  const { keepRounds, recordUpdates, spoolBytes, rounds } = config;
  const hasBest = config.evaluate.best !== undefined;
  const kept = keepRounds === "all" ? rounds + 1 : keepRounds === "best" ? 2 : keepRounds + (hasBest ? 1 : 0);
  const most = Math.min(kept + 1, rounds + 1);
  // The last rounds have the most merged rows.
  const mergedRows = [0, ...merged].slice(-most).reduce((sum, rows) => sum + rows, 0);
  const updates = selections.map((selected) => selected.reduce((sum, { r }) => sum + updateBytes(r), 0));
  const statesOf = (some: Iterable<RankedClient>) => [...some].reduce((sum, { r }) => sum + stateLengthIn(config, layout, r), 0);
  const trained = new Map(selections.flatMap((selected) => selected.map((client) => [client.id, client] as const)));
  const values = layout.r * layout.width + layout.denseSize + stateValues(config, layout, trained.size);
  const perTier = tiers.reduce((sum, r) => sum + r * layout.width + layout.denseSize, 0);
  return {
    rounds: most,
    roundBytes: F32 * (most * values + mergedRows * layout.width),
    updateBytes: recordUpdates ? updates.reduce((sum, bytes) => sum + bytes, 0) : Math.min(spoolBytes, Math.max(0, ...updates)),
    stateBytes: F32 * (statesOf(trained.values()) + Math.max(0, ...selections.map(statesOf))),
    adapterBytes: F32 * perTier * (hasBest ? 2 : 1),
  };
}

const F32 = Float32Array.BYTES_PER_ELEMENT;

/** What a built-in aggregation remembers from round to round; of one's own it is not known. */
function stateValues({ strategy }: Pick<RunConfig, "strategy">, { r, width, denseSize, modules }: AdapterLayout, clients: number): number {
  const { name, serverOptimizer, momentum, momentumRank = 2 * r, incrementRank } = (strategy.aggregation.policy ?? {}) as Remembering;
  if (name === "product-deltas") return momentum === 0 ? 0 : momentumRank * width + denseSize;
  if (name === "flora") return incrementRank === undefined ? 0 : 2 * r * width;
  if (name === "fedrora") return clients * r * modules.length;
  return (serverOptimizer ? stateVectors(serverOptimizer) : 0) * (r * width + denseSize);
}

interface Remembering {
  readonly name?: string;
  readonly serverOptimizer?: ServerOptimizerOptions;
  readonly momentum?: number;
  readonly momentumRank?: number;
  readonly incrementRank?: number;
}
