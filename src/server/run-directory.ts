import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { hostname } from "node:os";
import path from "node:path";
import { snakeKeys } from "../config/case.ts";
import { ConfigError, EnvironmentError, PrelortError } from "../errors.ts";
import type { ServerState } from "../strategy/strategy.ts";
import { parseJson } from "../tensor/json.ts";
import { cutLog, type LineLog, openLineLog, writeDurably, writingError } from "./durable.ts";
import { type Close, closeOf, type Commit, commitsOf, hasEnded } from "./journal.ts";
import { type Holder, isLockFile, lockHolder, releaseLock, takeLock } from "./lock.ts";
import { decodeState, encodeState, GLOBAL, hashOf, STATE } from "./round-files.ts";

/**
 * The folder that holds everything a run leaves: `run.json`, `journal.jsonl`, `metrics.jsonl`, `timings.jsonl`, `rounds/<n>/`,
 * `updates/`, `adapters/r<k>/`, `workers/<id>.log`.
 */
export interface RunDirectory {
  readonly path: string;
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

export interface RunDirectoryOptions {
  readonly runsDir: string;
  /** The next free `run-N` when there is none. */
  readonly name?: string | undefined;
  /** Replace a run of that name that has committed rounds, once this one has committed its first. */
  readonly overwrite?: boolean | undefined;
}

export async function createRunDirectory(options: RunDirectoryOptions): Promise<RunDirectory> {
  const { root, replaced } = await claimFolder(options).catch((cause: unknown) => {
    if (cause instanceof PrelortError) throw cause;
    const problem = `no run directory can be made in ${path.resolve(options.runsDir)}: ${(cause as Error).message}`;
    throw new EnvironmentError(problem, "choose a folder that can be written to (--set runs_dir=…)", { cause });
  });
  return openRunDirectory(root, replaced);
}

/** Opens the directory of a run that did not come to its end, to go on with it. What was half written goes. */
export async function reopenRunDirectory(root: string): Promise<ReopenedDirectory> {
  const record = parseJson(await readFile(path.join(root, "run.json"), "utf8").catch(() => ""));
  if (record === undefined) throw refusal(`${root} holds no run that had begun: start it with prelort run`);
  requireLock(root);
  try {
    const entries = await cutLog(path.join(root, "journal.jsonl"));
    const commits = await wholeRounds(root, commitsOf(entries));
    const metrics = await cutLog(path.join(root, "metrics.jsonl"), (entry) => roundOf(entry) < commits.length);
    await cutLog(path.join(root, "timings.jsonl"));
    const replaced = `${root}.replaced`;
    if (commits.length > 0) await rm(replaced, { recursive: true, force: true });
    const fileOf = (round: number, name: string) => readFile(path.join(root, "rounds", `${round}`, name));
    return {
      ...(await openRunDirectory(root, commits.length === 0 && existsSync(replaced) ? replaced : undefined)),
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
  } catch (error) {
    releaseLock(root);
    throw error;
  }
}

async function openRunDirectory(root: string, replaced: string | undefined): Promise<RunDirectory> {
  await mkdir(path.join(root, "workers"), { recursive: true });
  const [journal, metrics, timings] = await Promise.all(
    ["journal.jsonl", "metrics.jsonl", "timings.jsonl"].map((name) => openLineLog(path.join(root, name))),
  );
  if (!journal || !metrics || !timings) throw new Error("unreachable: three logs were opened");
  const logs = [journal, metrics, timings];
  return {
    path: root,
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
      if (replaced) await rm(replaced, { recursive: true, force: true });
      return sha256;
    },
    async writeMetrics(entry) {
      metrics.append(entry);
      await metrics.flush();
    },
    writeRecord: (name, record) => writeDurably(path.join(root, name), `${JSON.stringify(record, null, 2)}\n`),
    async close() {
      const closed = await Promise.allSettled(logs.map((log) => log.close()));
      releaseLock(root);
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

/** Everything a run writes into its folder; a folder that holds anything else is not ours to replace. */
const OURS = new Set([
  "run.json",
  "journal.jsonl",
  "metrics.jsonl",
  "timings.jsonl",
  "data-files.json",
  "rounds",
  "updates",
  "adapters",
  "workers",
  "report.html",
]);

interface Claim {
  readonly root: string;
  /** Where the run that is replaced was put aside, until there is something to replace it. */
  readonly replaced?: string;
}

async function claimFolder({ runsDir, name, overwrite }: RunDirectoryOptions): Promise<Claim> {
  const root = path.resolve(runsDir, name ?? (await nextFreeName(runsDir)));
  await mkdir(path.dirname(root), { recursive: true });
  const hasRounds = existsSync(root) && (await inspect(root));
  if (hasRounds && !overwrite) throw refusal(`${root} already holds a run; --overwrite replaces it, --set name=… keeps both`);

  const aside = `${root}.replaced`;
  if (hasRounds) {
    await rm(aside, { recursive: true, force: true });
    await rename(root, aside);
  }
  await rm(root, { recursive: true, force: true });
  await mkdir(root);
  requireLock(root);
  // Also what a start that failed had put aside.
  return overwrite && existsSync(aside) ? { root, replaced: aside } : { root };
}

/** Whether the run in this folder has committed a round. Refuses what is no run, or one that is under way. */
async function inspect(root: string): Promise<boolean> {
  const entries = await readdir(root);
  const foreign = entries.find((entry) => !OURS.has(entry) && !isLockFile(entry));
  if (foreign !== undefined)
    throw refusal(`${root} exists and is no run of prelort (it holds ${foreign}); choose another name (--set name=…)`);
  const holder = lockHolder(root);
  if (holder) throw refusal(inUse(root, holder));
  return entries.includes("rounds");
}

function requireLock(root: string): void {
  let holder: Holder | undefined;
  try {
    holder = takeLock(root);
  } catch (cause) {
    throw writingError(path.join(root, "lock"), cause);
  }
  if (holder) throw refusal(inUse(root, holder));
}

function inUse(root: string, { pid, host }: Holder): string {
  const whose = host === hostname() ? `process ${pid}` : `process ${pid} of ${host}, which cannot be asked from here`;
  const orRemove = host === hostname() ? "" : `, or remove ${path.join(root, "lock")} once you know it is gone`;
  return `${root} is in use by ${whose}; wait for it to end, or choose another name (--set name=…)${orRemove}`;
}

async function nextFreeName(runsDir: string): Promise<string> {
  const taken = new Set(existsSync(runsDir) ? await readdir(runsDir) : []);
  let number = 1;
  while (taken.has(`run-${number}`)) number++;
  return `run-${number}`;
}

function refusal(message: string): ConfigError {
  return new ConfigError([{ path: "name", message }]);
}
