import { mkdir } from "node:fs/promises";
import path from "node:path";
import type { ServerState } from "../strategy/strategy.ts";
import { type ClaimedFolder, type ClaimOptions, claimNewFolder, claimRunFolder } from "./claim-run-folder.ts";
import { CLIENTS } from "./client-table.ts";
import { DATA_FILES, type DataFile } from "./data-files.ts";
import { writeDurably } from "./durable-file.ts";
import { EVENTS, openEventLog, type RecordedEvent } from "./event-log.ts";
import { type Commit, type JournalEntry, openJournal } from "./journal.ts";
import { RoundFolders } from "./kept-rounds.ts";
import type { LineLog } from "./line-log.ts";
import type { Holder } from "./lock.ts";
import { openMetricsFile, type RoundMetrics } from "./metrics.ts";
import { type FoundLogs, findResumePoint, type ResumePoint } from "./resume-point.ts";
import { encodeState, GLOBAL, hashOf, roundFile, STATE } from "./round-files.ts";
import { RUN_RECORD, type WrittenRecord } from "./run-record.ts";
import { openTimings, type Timing } from "./timings.ts";

/** The folder with everything that a run leaves on disk; README.md lists its files. */
export interface RunDirectory {
  readonly path: string;
  /** The run whose folder this one was copied from, if that run was under way then. */
  readonly copyOf: Holder | undefined;
  /** Absolute path of a file inside. */
  file(...parts: string[]): string;
  /** What was decided and received, in order; flushed at every commit. */
  readonly journal: LineLog<JournalEntry>;
  readonly timings: LineLog<Timing>;
  readonly events: LineLog<RecordedEvent>;
  /**
   * Makes a round final: its files are on disk before the journal commits it. Then removes those of the rounds that are not kept.
   * Returns the SHA-256 of the adapter's file.
   */
  commitRound(result: RoundResult, keeps?: (round: number) => boolean): Promise<string>;
  /** Removes the files of the rounds that are not kept. */
  dropRounds(keeps: (round: number) => boolean): Promise<void>;
  /** Writes a round's line of `metrics.jsonl`, which is on disk once this resolves. */
  writeMetrics(metrics: RoundMetrics): Promise<void>;
  writeRecord(record: WrittenRecord): Promise<void>;
  writeClients(parts: Iterable<Uint8Array>): Promise<void>;
  writeDataFiles(files: readonly DataFile[]): Promise<void>;
  close(): Promise<void>;
}

/** A run directory, and the point from which its run continues. */
export interface ReopenedDirectory extends RunDirectory, ResumePoint {}

export interface RoundResult extends Pick<Commit, "round" | "trained" | "clients" | "setAside"> {
  /** A safetensors file, in parts. */
  readonly global: readonly Uint8Array[];
  readonly state: ServerState;
}

export async function createRunDirectory(options: ClaimOptions): Promise<RunDirectory> {
  return openClaimed(await claimNewFolder(options), openRunDirectory);
}

/** Opens the directory of an earlier run to continue it. Nothing in it is changed before the first write. */
export async function reopenRunDirectory(root: string): Promise<ReopenedDirectory> {
  return openClaimed(await claimRunFolder(root), async (folder) => {
    const { point, logs } = await findResumePoint(root);
    return { ...(await openRunDirectory(folder, logs)), ...point };
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
  found?: FoundLogs,
): Promise<RunDirectory> {
  await mkdir(path.join(root, "workers"), { recursive: true });
  const journal = openJournal(path.join(root, "journal.jsonl"), found?.journal);
  const timings = openTimings(path.join(root, "timings.jsonl"), found?.timings);
  const events = openEventLog(path.join(root, EVENTS), found?.events);
  const metrics = openMetricsFile(path.join(root, "metrics.jsonl"), found?.metrics);
  const rounds = new RoundFolders(root, found?.rounds ?? { present: [], dropped: [] });
  const writeJson = async (name: string, content: unknown) => {
    requireHeld();
    await writeDurably(path.join(root, name), `${JSON.stringify(content, null, 2)}\n`);
  };
  return {
    path: root,
    copyOf,
    file: (...parts) => path.join(root, ...parts),
    journal,
    timings,
    events,
    async commitRound({ round, global, state, ...made }, keeps = () => true) {
      requireHeld();
      const hashes = await writeRoundFiles(root, { round, global, state });
      journal.append({ type: "commit", round, ...hashes, ...made });
      rounds.add(round);
      rounds.drop(keeps, journal);
      await journal.flush();
      await dropReplaced();
      await rounds.removeDropped();
      // A run whose events nobody can read any more ends here, where it can be resumed, not hours later.
      await Promise.all([events.written(), timings.written()]);
      return hashes.sha256;
    },
    async dropRounds(keeps) {
      requireHeld();
      rounds.drop(keeps, journal);
      await journal.flush();
      await rounds.removeDropped();
    },
    async writeMetrics(figures) {
      requireHeld();
      await metrics.write(figures);
    },
    writeRecord: (record) => writeJson(RUN_RECORD, record),
    async writeClients(parts) {
      requireHeld();
      await writeDurably(path.join(root, CLIENTS), parts);
    },
    writeDataFiles: (files) => writeJson(DATA_FILES, files),
    async close() {
      const closed = await Promise.allSettled([journal, timings, events, metrics].map((log) => log.close()));
      release();
      for (const log of closed) if (log.status === "rejected") throw log.reason;
    },
  };
}

async function writeRoundFiles(
  root: string,
  { round, global, state }: Pick<RoundResult, "round" | "global" | "state">,
): Promise<Pick<Commit, "sha256" | "stateSha256">> {
  const stateParts = encodeState(state);
  const written = [writeDurably(path.join(root, roundFile(round, GLOBAL)), global)];
  if (stateParts) written.push(writeDurably(path.join(root, roundFile(round, STATE)), stateParts));
  // Hashed while the files are being written.
  const hashes = { sha256: hashOf(global), stateSha256: stateParts ? hashOf(stateParts) : null };
  await Promise.all(written);
  return hashes;
}
