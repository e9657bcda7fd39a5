import { mkdir } from "node:fs/promises";
import path from "node:path";
import { snakeKeys } from "../base/case.ts";
import type { ServerState } from "../strategy/strategy.ts";
import { type ClaimedFolder, type ClaimOptions, claimNewFolder, claimRunFolder } from "./claim-run-folder.ts";
import { type LineLog, openLineLog, writeDurably } from "./durable-file.ts";
import type { RoundMetrics } from "./metrics.ts";
import type { Commit } from "./journal.ts";
import type { Holder } from "./lock.ts";
import { openMetricsFile } from "./metrics.ts";
import { type LeftLogs, type Past, readPast } from "./past.ts";
import { encodeState, GLOBAL, hashOf, STATE } from "./round-files.ts";

/**
 * The folder that holds everything a run leaves: `run.json`, `journal.jsonl`, `metrics.jsonl`, `timings.jsonl`, `rounds/<n>/`,
 * `updates/`, `adapters/r<k>/`, `workers/<id>.log`.
 */
export interface RunDirectory {
  readonly path: string;
  /** Whose folder this one was copied from while a run was under way in it. */
  readonly copyOf: Holder | undefined;
  /** Absolute path of something inside. */
  file(...parts: string[]): string;
  /** What was decided and received, in the order in which it happened; flushed at every commit. */
  readonly journal: LineLog;
  /** Everything that is a time. */
  readonly timings: LineLog;
  /**
   * Makes a round final: the global adapter, and what the aggregation remembers, are on disk before the journal says so.
   * Returns the SHA-256 of the adapter's file.
   */
  commitRound(result: RoundResult): Promise<string>;
  /** A round's line of `metrics.jsonl`, on disk once this resolves. */
  writeMetrics(metrics: Pick<RoundMetrics, "round">): Promise<void>;
  /** Writes a JSON file whole. */
  writeRecord(name: string, record: unknown): Promise<void>;
  close(): Promise<void>;
}

/** A run directory with what an earlier life of the run left in it. */
export interface ReopenedDirectory extends RunDirectory, Past {}

export interface RoundResult extends Pick<Commit, "round" | "trained" | "clients" | "setAside"> {
  /** A safetensors file, in parts. */
  readonly global: readonly Uint8Array[];
  readonly state: ServerState;
}

export async function createRunDirectory(options: ClaimOptions): Promise<RunDirectory> {
  return openClaimed(await claimNewFolder(options), openRunDirectory);
}

/**
 * Opens the directory of a run that did not come to its end, to go on with it. Nothing in it is changed before the first write.
 */
export async function reopenRunDirectory(root: string): Promise<ReopenedDirectory> {
  return openClaimed(await claimRunFolder(root), async (folder) => {
    const { past, logs } = await readPast(root);
    return { ...(await openRunDirectory(folder, logs)), ...past };
  });
}

/** Keeps the folder only if it can be opened. */
async function openClaimed<T>(folder: ClaimedFolder, open: (folder: ClaimedFolder) => Promise<T>): Promise<T> {
  try {
    return await open(folder);
  } catch (error) {
    folder.release();
    throw error;
  }
}

async function openRunDirectory(
  { root, copyOf, dropReplaced, requireHeld, release }: ClaimedFolder,
  left?: LeftLogs,
): Promise<RunDirectory> {
  await mkdir(path.join(root, "workers"), { recursive: true });
  const journal = openLineLog(path.join(root, "journal.jsonl"), left?.journal);
  const timings = openLineLog(path.join(root, "timings.jsonl"), left?.timings);
  const metrics = openMetricsFile(path.join(root, "metrics.jsonl"), left?.metrics);
  return {
    path: root,
    copyOf,
    file: (...parts) => path.join(root, ...parts),
    journal,
    timings,
    async commitRound({ round, global, state, ...made }) {
      requireHeld();
      const folder = path.join(root, "rounds", `${round}`);
      const stateParts = encodeState(state);
      const written = [writeDurably(path.join(folder, GLOBAL), global)];
      if (stateParts) written.push(writeDurably(path.join(folder, STATE), stateParts));
      // While that is being written.
      const [sha256, stateSha256] = [hashOf(global), stateParts ? hashOf(stateParts) : null];
      await Promise.all(written);
      journal.append({ type: "commit", ...(snakeKeys({ round, sha256, stateSha256, ...made }) as object) });
      await journal.flush();
      await dropReplaced();
      return sha256;
    },
    async writeMetrics(figures) {
      requireHeld();
      await metrics.write(figures);
    },
    async writeRecord(name, record) {
      requireHeld();
      await writeDurably(path.join(root, name), `${JSON.stringify(record, null, 2)}\n`);
    },
    async close() {
      const closed = await Promise.allSettled([journal, timings, metrics].map((log) => log.close()));
      release();
      for (const log of closed) if (log.status === "rejected") throw log.reason;
    },
  };
}
