import type { RunConfig } from "../config/schema.ts";
import type { RunDirectory } from "../records/run-directory.ts";
import { createUpdateStore, type UpdateStore } from "../records/update-store.ts";
import { ClientStates, type Known } from "./client-states.ts";

/** What a run keeps of its clients' fits. */
export interface Stores {
  readonly updates: UpdateStore;
  /** Undefined if the clients' optimizers are new for each fit. */
  readonly states: ClientStates | undefined;
}

export function createStores(config: RunConfig, directory: Pick<RunDirectory, "file">, known: Pick<Known, "history" | "hashes">): Stores {
  const updates = createUpdateStore({
    folder: directory.file("updates"),
    isRecorded: config.recordUpdates,
    isRead: config.strategy.aggregation.readsSpool ?? false,
    maxBytes: config.spoolBytes,
  });
  if (config.fit.clientState === "new") return { updates, states: undefined };
  const states = new ClientStates({ folder: directory.file("client-states"), seed: config.seed, ...known });
  return { updates: states.beside(updates), states };
}
