import type { Adapter } from "../adapter/adapter.ts";
import type { RunConfig } from "../config/schema.ts";
import type { ClientColumns } from "../protocol/client-columns.ts";
import type { RankedClient, ServerState } from "../strategy/strategy.ts";
import type { NewEvent } from "./events.ts";
import type { TrainedMetrics } from "../records/metrics.ts";
import type { ReopenedDirectory, RunDirectory } from "../records/run-directory.ts";
import type { Difference } from "../records/resume-check.ts";
import type { Session } from "./session.ts";
import type { RoundSpans } from "./round-spans.ts";
import type { Meters } from "../telemetry/telemetry.ts";
import type { Stopwatch } from "../records/timings.ts";

/** Where a resumed run continues, and how its versions and devices differ from those it began with. */
export type ResumedFrom = Pick<
  ReopenedDirectory,
  "commits" | "closed" | "metrics" | "unmeasured" | "hasEnded" | "stopped" | "remarks" | "readGlobal" | "readState" | "file"
> & {
  readonly differences: readonly Difference[];
};

/** What a run trains with, once its workers are up. */
export interface RunContext {
  readonly config: RunConfig;
  readonly signal: AbortSignal;
  readonly session: Session;
  readonly directory: RunDirectory;
  /** Of a resumed run. */
  readonly resumed: ResumedFrom | undefined;
  readonly clock: Stopwatch;
  emit(event: NewEvent): void;
  readonly rounds: RoundSpans;
  readonly meters: Meters;
}

/** A round whose global adapter is on disk. */
export interface CommittedRound {
  readonly round: number;
  readonly global: Adapter;
  readonly state: ServerState;
  /** With their ranks for the next round. */
  readonly clients: readonly RankedClient[];
  readonly trained: TrainedMetrics;
  /** Clients that are quarantined from this round on: never selected again. */
  readonly setAside: readonly string[];
  readonly sha256: string;
}

/** The clients with their ranks for the next round. */
export function withRanks(
  clients: readonly RankedClient[],
  { indexOf }: Pick<ClientColumns, "indexOf">,
  ranks: ReadonlyMap<string, number>,
): readonly RankedClient[] {
  const changed = [...ranks].flatMap(([id, r]) => {
    const client = clients[indexOf(id)];
    return client && client.r !== r ? [{ ...client, r }] : [];
  });
  if (changed.length === 0) return clients;
  const ranked = clients.slice();
  for (const client of changed) ranked[client.index] = Object.freeze(client);
  return Object.freeze(ranked);
}
