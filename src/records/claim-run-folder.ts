import { existsSync } from "node:fs";
import { mkdir, readdir, rename, rm, rmdir } from "node:fs/promises";
import path from "node:path";
import { ConfigError, EnvironmentError, PrelortError, RunFailedError } from "../errors.ts";
import { type FolderLock, type Holder, isRefusal, LOCK, type Refusal, takeLock } from "./lock.ts";
import { describeNoRun } from "./no-run.ts";
import { readingError } from "../base/read-file.ts";

/*
 * How a run gets hold of its folder: the folder is created or found, locked, checked, and only then changed. It is never moved,
 * since that would move the lock with it. A run that is replaced is kept in `replaced/` until the new run has committed a round.
 */

/** A run folder that this process holds. */
export interface ClaimedFolder {
  readonly root: string;
  /** The run that this folder was copied from, if that run was under way then. */
  readonly copyOf: Holder | undefined;
  /** Removes the run that is being replaced, if there is one. */
  dropReplaced(): Promise<void>;
  /** Throws a RunFailedError if the folder was moved or removed: a folder of that name is then no longer ours. */
  requireHeld(): void;
  /** Safe to call twice. */
  release(): void;
}

export interface ClaimOptions {
  readonly runsDir: string;
  /** By default the next free `run-N`. */
  readonly name?: string | undefined;
  /** Replace a run of that name that has committed rounds, once this one has committed its first. */
  readonly overwrite?: boolean | undefined;
}

/** Claims a folder for a new run, empty except for its lock and the run that it replaces. Throws a ConfigError if the name is taken. */
export async function claimNewFolder({ runsDir, name, overwrite = false }: ClaimOptions): Promise<ClaimedFolder> {
  try {
    await mkdir(runsDir, { recursive: true });
    if (name !== undefined) return await claimNamed(path.resolve(runsDir, name), overwrite);
    return await claimNextNumber(path.resolve(runsDir));
  } catch (cause) {
    if (cause instanceof PrelortError) throw cause;
    const problem = `no run directory can be created in ${path.resolve(runsDir)}: ${(cause as Error).message}`;
    throw new EnvironmentError(problem, "choose a writable folder (--set runs_dir=…)", { cause });
  }
}

/** Claims the folder of a run to resume it. Changes none of its files. */
export async function claimRunFolder(root: string): Promise<ClaimedFolder> {
  const entries = await readdir(root).catch((error: unknown): string[] => {
    if (NOT_THERE.has((error as NodeJS.ErrnoException).code ?? "")) return [];
    throw new EnvironmentError(`${root} could not be read: ${(error as Error).message}`, "name the directory of a run", { cause: error });
  });
  if (!entries.includes(RECORD) && !entries.includes(REPLACING)) {
    throw refusal(await describeNoRun(root));
  }
  const taken = await takeLock(root).catch((cause: unknown) => {
    if (cause instanceof PrelortError) throw cause;
    const problem = `${path.join(root, LOCK)} could not be taken: ${(cause as Error).message}`;
    throw new EnvironmentError(problem, "check that the run directory can be written to", { cause });
  });
  if (isRefusal(taken)) throw inUse(root, taken, "wait for it to end");
  return orRelease(taken, async () => {
    await requireFoldersWithin(root);
    await settleReplacement(root);
    return claimed(root, taken);
  });
}

async function claimNamed(root: string, overwrite: boolean): Promise<ClaimedFolder> {
  await mkdir(root).catch(ignoreExisting);
  // Checked before locking: nothing is written into a folder that is not ours.
  requireRun(root, await readdir(root));
  const taken = await takeLock(root);
  if (isRefusal(taken)) throw inUse(root, taken, "wait for it to end, or choose another name (--set name=…)");
  return orRelease(taken, async () => {
    await requireFoldersWithin(root);
    await settleReplacement(root);
    const entries = await readdir(root);
    requireRun(root, entries);
    if (!overwrite) requireUnused(root, entries);
    if (isUsed(entries)) await moveAside(root, entries);
    else for (const entry of entries) if (!STAYING.has(entry)) await rm(path.join(root, entry), { recursive: true });
    return claimed(root, taken);
  });
}

/** Each of several processes gets a folder of its own, since only one of them can create a given folder. */
async function claimNextNumber(runsDir: string): Promise<ClaimedFolder> {
  for (let number = 1; ; number++) {
    const root = path.join(runsDir, `run-${number}`);
    const isMade = await mkdir(root).then(() => true, ignoreExisting);
    if (!isMade) continue;
    const taken = await takeLock(root);
    // Another process that asked for this name may have been faster.
    if (!isRefusal(taken)) return claimed(root, taken);
  }
}

function claimed(root: string, { copyOf, isInPlace, release }: FolderLock): ClaimedFolder {
  return {
    root,
    copyOf,
    dropReplaced: () => rm(path.join(root, REPLACED), { recursive: true, force: true }),
    requireHeld() {
      if (isInPlace()) return;
      throw new RunFailedError(
        `${root}, or the lock in it, was moved or removed while the run was under way; the run writes nothing more there`,
      );
    },
    release,
  };
}

/** Releases the lock if `work` fails. */
async function orRelease<T>(lock: FolderLock, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    lock.release();
    throw error;
  }
}

/** Moves a run to `replacing/`, `rounds` last: until that has moved, `settleReplacement` puts everything back. */
async function moveAside(root: string, found: readonly string[]): Promise<void> {
  // The user may have removed it to free space.
  if (!found.includes(ROUNDS)) await mkdir(path.join(root, ROUNDS));
  const entries = [...new Set([...found, ROUNDS])];
  await mkdir(path.join(root, REPLACING));
  const others = entries.filter((entry) => !STAYING.has(entry) && entry !== RECORD && entry !== ROUNDS);
  for (const entry of [...others, RECORD, ROUNDS].filter((entry) => entries.includes(entry))) {
    await rename(path.join(root, entry), path.join(root, REPLACING, entry));
  }
  await settleReplacement(root);
}

/** Finishes a `moveAside` that was killed half-way, or undoes it. */
async function settleReplacement(root: string): Promise<void> {
  const [replacing, replaced] = [path.join(root, REPLACING), path.join(root, REPLACED)];
  if (!existsSync(replacing)) return;
  if (existsSync(path.join(replacing, ROUNDS))) {
    // An earlier replaced run: the run that is replaced now has committed a round since.
    await rm(replaced, { recursive: true, force: true });
    await rename(replacing, replaced);
    return;
  }
  for (const entry of await readdir(replacing)) await rename(path.join(replacing, entry), path.join(root, entry));
  await rmdir(replacing);
}

/** Refuses a folder that holds anything but a run. */
function requireRun(root: string, entries: readonly string[]): void {
  const foreign = entries.find((entry) => !OURS.has(entry.replace(PARTIAL, "")));
  if (foreign !== undefined)
    throw refusal(`${root} exists and is not a run of prelort (it holds ${foreign}); choose another name (--set name=…)`);
}

/** Refuses a run folder with folders that are links, or contain links or foreign files: writes and removals would go elsewhere. */
async function requireFoldersWithin(root: string): Promise<void> {
  const entries = await readdir(root, { withFileTypes: true });
  for (const { name } of entries.filter((entry) => FOLDERS.has(entry.name))) {
    const folder = path.join(root, name);
    const links = entries.some((entry) => entry.name === name && entry.isSymbolicLink()) ? [folder] : await linksIn(folder);
    if (links[0]) throw refusal(`${links[0]} is a link, which may lead anywhere; replace it with the folder itself`);
  }
  if (entries.some(({ name }) => name === REPLACING)) requireRun(path.join(root, REPLACING), await readdir(path.join(root, REPLACING)));
}

async function linksIn(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((cause: unknown) => {
    throw readingError(folder, cause);
  });
  return entries.flatMap((entry) => (entry.isSymbolicLink() ? [path.join(folder, entry.name)] : []));
}

/** The run has results: its rounds, or what is left if the user removed those. */
function isUsed(entries: readonly string[]): boolean {
  return [ROUNDS, METRICS, ADAPTERS].some((entry) => entries.includes(entry));
}

/** Refuses a folder with a run that must not be replaced. */
function requireUnused(root: string, entries: readonly string[]): void {
  if (isUsed(entries))
    throw refusal(
      `${root} already holds a run; prelort resume continues it if it has not ended, overwrite (--overwrite) replaces it, another name (--set name=…) keeps both`,
    );
  if (!entries.includes(REPLACED)) return;
  const kept = path.join(root, REPLACED);
  throw refusal(
    `${kept} holds a run that an earlier --overwrite would have replaced; overwrite (--overwrite) replaces it, another name (--set name=…) keeps it`,
  );
}

function inUse(root: string, { isThisProcess, holder }: Refusal, remedy: string): ConfigError {
  // The same folder by another path, such as a link or a container's mount.
  const where = holder && holder.folder !== root ? ` as ${holder.folder}` : "";
  const user = holder === undefined ? "another process" : `process ${holder.pid} on ${holder.host}${where}`;
  const state = isThisProcess ? "has a run under way in this process" : `is in use by ${user}`;
  return refusal(`${root} ${state}; ${remedy}`);
}

function refusal(message: string): ConfigError {
  return new ConfigError([{ path: "name", message }]);
}

function ignoreExisting(error: unknown): false {
  if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
  throw error;
}

const NOT_THERE: ReadonlySet<string> = new Set(["ENOENT", "ENOTDIR"]);
const ROUNDS = "rounds";
const RECORD = "run.json";
/** The run that is being replaced: once complete, and while it is being moved. */
const REPLACED = "replaced";
const REPLACING = "replacing";
/** Left by a kill while a file was being written. */
const PARTIAL = /\.partial$/;
const METRICS = "metrics.jsonl";
const ADAPTERS = "adapters";
/** Folders of a run. */
const FOLDERS = new Set([ROUNDS, ADAPTERS, "updates", "client-states", "workers", "track", "tensorboard", "wandb", REPLACED, REPLACING]);
const STAYING = new Set([LOCK, REPLACED, REPLACING]);
/** Everything a run writes into its folder. A folder that holds anything else is never replaced. */
const OURS = new Set([
  ...STAYING,
  RECORD,
  "journal.jsonl",
  METRICS,
  "timings.jsonl",
  "events.jsonl",
  "clients.json",
  "data-files.json",
  ...FOLDERS,
  "report.html",
]);
