import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { ConfigError, EnvironmentError, PrelortError } from "../errors.ts";
import { encodeSafetensors } from "../tensor/safetensors.ts";
import { type LineLog, openLineLog, writeDurably } from "./durable.ts";

/**
 * The folder that holds everything a run leaves:
 * `run.json`, `journal.jsonl`, `metrics.jsonl`, `timings.jsonl`, `rounds/<n>/`, `adapters/r<k>/`, `workers/<id>.log`.
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
   * Makes a round final: the global adapter, and what the aggregation remembers, are on disk before the journal says
   * so. Returns the SHA-256 of the adapter's file.
   */
  commitRound(round: number, result: RoundResult): Promise<string>;
  /** A line of `metrics.jsonl`, on disk once this resolves. */
  writeMetrics(metrics: unknown): Promise<void>;
  /** Writes a JSON file whole. */
  writeRecord(name: string, record: unknown): Promise<void>;
  close(): Promise<void>;
}

export interface RoundResult {
  /** A safetensors file, in parts. */
  readonly global: readonly Uint8Array[];
  readonly state: Readonly<Record<string, Float32Array>>;
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
  await mkdir(path.join(root, "workers"));
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
    async commitRound(round, { global, state }) {
      const folder = path.join(root, "rounds", String(round));
      const written = [writeDurably(path.join(folder, "global.safetensors"), global)];
      const remembered = Object.entries(state);
      if (remembered.length > 0) {
        const tensors = new Map(remembered.map(([name, values]) => [name, { shape: [values.length], values }]));
        written.push(writeDurably(path.join(folder, "server-state.safetensors"), encodeSafetensors(tensors, {})));
      }
      const hash = createHash("sha256");
      // While that is being written.
      for (const part of global) hash.update(part);
      await Promise.all(written);
      const sha256 = hash.digest("hex");
      journal.append({ type: "commit", round, sha256 });
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
      await Promise.all(logs.map((log) => log.close()));
      await rm(path.join(root, "lock"), { force: true });
    },
  };
}

/** Everything a run writes into its folder; a folder that holds anything else is not ours to replace. */
const OURS = new Set([
  "lock",
  "run.json",
  "journal.jsonl",
  "metrics.jsonl",
  "timings.jsonl",
  "rounds",
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

  const replaced = hasRounds ? `${root}.replaced` : undefined;
  if (replaced) {
    await rm(replaced, { recursive: true, force: true });
    await rename(root, replaced);
  }
  await rm(root, { recursive: true, force: true });
  await mkdir(root);
  await writeFile(path.join(root, "lock"), `${process.pid}\n`, { flag: "wx" });
  return replaced ? { root, replaced } : { root };
}

/** Whether the run in this folder has committed a round. Refuses what is no run, or one that is under way. */
async function inspect(root: string): Promise<boolean> {
  const entries = await readdir(root);
  const foreign = entries.find((entry) => !OURS.has(entry));
  if (foreign !== undefined)
    throw refusal(`${root} exists and is no run of prelort (it holds ${foreign}); choose another name (--set name=…)`);
  const holder = entries.includes("lock") ? Number(await readFile(path.join(root, "lock"), "utf8")) : 0;
  if (isAlive(holder)) throw refusal(`${root} is in use by process ${holder}; wait for it to end, or choose another name (--set name=…)`);
  return entries.includes("rounds");
}

/** A lock whose process is gone was left by a kill. */
function isAlive(pid: number): boolean {
  if (!(pid > 0)) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
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
