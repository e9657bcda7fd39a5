import type { Adapter } from "../adapter/adapter.ts";
import type { RunConfig } from "../config/schema.ts";
import type { RankedClient, ServerState } from "../strategy/strategy.ts";
import type { RunEvent } from "./events.ts";
import type { TrainedMetrics } from "../records/metrics.ts";
import type { ReopenedDirectory, RunDirectory } from "../records/run-directory.ts";
import type { Difference } from "../records/resume-check.ts";
import type { Session } from "./session.ts";
import type { Stopwatch } from "../records/timings.ts";

/** What an earlier life of the run left, and in what this one differs from it. */
export type Past = Pick<
  ReopenedDirectory,
  "commits" | "closed" | "metrics" | "unmeasured" | "remarks" | "readGlobal" | "readState" | "file"
> & {
  readonly differences: readonly Difference[];
};

/** What a run trains with, once its workers are up. */
export interface RunContext {
  readonly config: RunConfig;
  readonly signal: AbortSignal;
  readonly session: Session;
  readonly directory: RunDirectory;
  /** Of a run that is resumed. */
  readonly past: Past | undefined;
  readonly clock: Stopwatch;
  emit(event: RunEvent): void;
}

/** A round whose global adapter is on disk. */
export interface CommittedRound {
  readonly round: number;
  readonly global: Adapter;
  readonly state: ServerState;
  /** With the ranks that they go on with. */
  readonly clients: readonly RankedClient[];
  readonly trained: TrainedMetrics;
  /** Clients that are selected no more, from this round on. */
  readonly setAside: readonly string[];
  readonly sha256: string;
}

/** The clients with the ranks that they go on with. */
export function withRanks(clients: readonly RankedClient[], ranks: ReadonlyMap<string, number>): readonly RankedClient[] {
  if (ranks.size === 0) return clients;
  return Object.freeze(clients.map((client) => Object.freeze({ ...client, r: ranks.get(client.id) ?? client.r })));
}
