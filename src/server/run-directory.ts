import { mkdir, readFile } from "node:fs/promises";
import path from "node:path";
import { snakeKeys } from "../config/case.ts";
import { ConfigError } from "../errors.ts";
import type { ServerState } from "../strategy/strategy.ts";
import { parseJson } from "../tensor/json.ts";
import { type ClaimedFolder, type ClaimOptions, claimNewFolder, claimRunFolder } from "./claim-run-folder.ts";
import { cutLog, type LineLog, openLineLog, writeDurably } from "./durable.ts";
import { type Close, closeOf, type Commit, commitsOf, hasEnded } from "./journal.ts";
import type { Holder } from "./lock.ts";
import { decodeState, encodeState, GLOBAL, hashOf, STATE } from "./round-files.ts";

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
  /** A line of `metrics.jsonl`, on disk once this resolves. */
  writeMetrics(metrics: unknown): Promise<void>;
  /** Writes a JSON file whole. */
  writeRecord(name: string, record: unknown): Promise<void>;
  close(): Promise<void>;
}

/** A run directory with what an earlier life of the run left in it. */
export interface ReopenedDirectory extends RunDirectory {
  /** What `run.json` says, as it was parsed. */
  readonly record: unknown;
  /** From round 0, without gaps, to the last whose files are what the journal says. */
  readonly commits: readonly Commit[];
  /** How the round after these was closed, if it was. */
  readonly closed: Close | undefined;
  /** Lines of `metrics.jsonl`: of all of these rounds but, it may be, the last. */
  readonly metrics: readonly unknown[];
  /** The run has come to its end. */
  readonly hasEnded: boolean;
  /** The global adapter's file of a round. */
  readGlobal(round: number): Promise<Uint8Array>;
  readState(round: number): Promise<ServerState>;
}

export interface RoundResult extends Pick<Commit, "round" | "trained" | "clients" | "setAside"> {
  /** A safetensors file, in parts. */
  readonly global: readonly Uint8Array[];
  readonly state: ServerState;
}

export async function createRunDirectory(options: ClaimOptions): Promise<RunDirectory> {
  return openClaimed(await claimNewFolder(options), openRunDirectory);
}

/** Opens the directory of a run that did not come to its end, to go on with it. What was half written goes. */
export async function reopenRunDirectory(root: string): Promise<ReopenedDirectory> {
  return openClaimed(await claimRunFolder(root), async (folder) => {
    const record = parseJson(await readFile(path.join(root, "run.json"), "utf8").catch(() => ""));
    if (record === undefined)
      throw new ConfigError([{ path: "name", message: `${root} holds no run that had begun: start it with prelort run` }]);
    const entries = await cutLog(path.join(root, "journal.jsonl"));
    const commits = await wholeRounds(root, commitsOf(entries));
    const metrics = await cutLog(path.join(root, "metrics.jsonl"), (entry) => roundOf(entry) < commits.length);
    await cutLog(path.join(root, "timings.jsonl"));
    if (commits.length > 0) await folder.dropReplaced();
    const fileOf = (round: number, name: string) => readFile(path.join(root, "rounds", `${round}`, name));
    return {
      ...(await openRunDirectory(folder)),
      record,
      commits,
      closed: closeOf(entries, commits.length),
      metrics,
      hasEnded: hasEnded(entries),
      readGlobal: (round) => fileOf(round, GLOBAL),
      async readState(round) {
        if (!commits[round]?.stateSha256) return {};
        return decodeState(await fileOf(round, STATE), `round ${round}'s ${STATE}`);
      },
    };
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

async function openRunDirectory({ root, copyOf, dropReplaced, release }: ClaimedFolder): Promise<RunDirectory> {
  await mkdir(path.join(root, "workers"), { recursive: true });
  const [journal, metrics, timings] = await Promise.all(
    ["journal.jsonl", "metrics.jsonl", "timings.jsonl"].map((name) => openLineLog(path.join(root, name))),
  );
  if (!journal || !metrics || !timings) throw new Error("unreachable: three logs were opened");
  const logs = [journal, metrics, timings];
  return {
    path: root,
    copyOf,
    file: (...parts) => path.join(root, ...parts),
    journal,
    timings,
    async commitRound({ round, global, state, ...made }) {
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
    async writeMetrics(entry) {
      metrics.append(entry);
      await metrics.flush();
    },
    writeRecord: (name, record) => writeDurably(path.join(root, name), `${JSON.stringify(record, null, 2)}\n`),
    async close() {
      const closed = await Promise.allSettled(logs.map((log) => log.close()));
      release();
      for (const log of closed) if (log.status === "rejected") throw log.reason;
    },
  };
}

/** The rounds up to the last whose files are what the journal says. */
async function wholeRounds(root: string, commits: readonly Commit[]): Promise<readonly Commit[]> {
  for (const [place, { round, sha256, stateSha256 }] of [...commits.entries()].toReversed()) {
    const hashIn = async (name: string) => hashOf([await readFile(path.join(root, "rounds", `${round}`, name)).catch(() => NOTHING)]);
    const isWhole = (await hashIn(GLOBAL)) === sha256 && (stateSha256 === null || (await hashIn(STATE)) === stateSha256);
    if (isWhole) return commits.slice(0, place + 1);
  }
  return [];
}

const NOTHING = new Uint8Array(0);

function roundOf(entry: unknown): number {
  const { round } = entry as { readonly round?: unknown };
  return typeof round === "number" ? round : Infinity;
}
