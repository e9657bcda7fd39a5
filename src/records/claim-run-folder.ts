import { existsSync } from "node:fs";
import { mkdir, readdir, rename, rm, rmdir } from "node:fs/promises";
import path from "node:path";
import { ConfigError, EnvironmentError, PrelortError, RunFailedError } from "../errors.ts";
import { type FolderLock, type Holder, isRefusal, LOCK, type Refusal, takeLock } from "./lock.ts";
import { readingError } from "../base/read-file.ts";

/*
 * How a run comes to hold its folder. The folder is created or found, locked, looked into, and only then changed; it stays where
 * it is all the time, since whoever moved or removed it would take the lock along. A run that is replaced waits in `replaced/`
 * inside it until the new one has committed a round.
 */

/** A run folder that this process holds. */
export interface ClaimedFolder {
  readonly root: string;
  /** The run this folder was copied from, while that was under way. */
  readonly copyOf: Holder | undefined;
  /** Removes the run that is being replaced, if there is one: the new run has something to show. */
  dropReplaced(): Promise<void>;
  /** Throws a RunFailedError where the folder was moved or removed: what lies in its place is not ours. */
  requireHeld(): void;
  /** Safe to call twice. */
  release(): void;
}

export interface ClaimOptions {
  readonly runsDir: string;
  /** The next free `run-N` when there is none. */
  readonly name?: string | undefined;
  /** Replace a run of that name that has committed rounds, once this one has committed its first. */
  readonly overwrite?: boolean | undefined;
}

/** Claims a folder for a new run, empty but for its lock and the run that it replaces. Throws a ConfigError where it may not. */
export async function claimNewFolder({ runsDir, name, overwrite = false }: ClaimOptions): Promise<ClaimedFolder> {
  try {
    await mkdir(runsDir, { recursive: true });
    if (name !== undefined) return await claimNamed(path.resolve(runsDir, name), overwrite);
    return await claimNextNumber(path.resolve(runsDir));
  } catch (cause) {
    if (cause instanceof PrelortError) throw cause;
    const problem = `no run directory can be made in ${path.resolve(runsDir)}: ${(cause as Error).message}`;
    throw new EnvironmentError(problem, "choose a folder that can be written to (--set runs_dir=…)", { cause });
  }
}

/** Claims the folder of a run that goes on. Changes nothing of the run. */
export async function claimRunFolder(root: string): Promise<ClaimedFolder> {
  const entries = await readdir(root).catch((error: unknown): string[] => {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw new EnvironmentError(`${root} could not be read: ${(error as Error).message}`, "name the directory of a run", { cause: error });
  });
  if (!entries.includes(RECORD) && !entries.includes(REPLACING)) {
    throw refusal(`${root} holds no run: start one with prelort run`);
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
  // Before it is locked: nothing is written into a folder that is not ours.
  requireRun(root, await readdir(root));
  const taken = await takeLock(root);
  if (isRefusal(taken)) throw inUse(root, taken, "wait for it to end, or choose another name (--set name=…)");
  return orRelease(taken, async () => {
    await requireFoldersWithin(root);
    await settleReplacement(root);
    const entries = await readdir(root);
    requireRun(root, entries);
    if (!overwrite) requireUnused(root, entries);
    if (isUsed(entries)) await putAside(root, entries);
    else for (const entry of entries) if (!STAYING.has(entry)) await rm(path.join(root, entry), { recursive: true });
    return claimed(root, taken);
  });
}

/** Of several at once each makes a folder of its own: only one can create it. */
async function claimNextNumber(runsDir: string): Promise<ClaimedFolder> {
  for (let number = 1; ; number++) {
    const root = path.join(runsDir, `run-${number}`);
    const isMade = await mkdir(root).then(() => true, ignoreExisting);
    if (!isMade) continue;
    const taken = await takeLock(root);
    // Somebody who asked for that very name may have been faster.
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
        `${root}, or the lock in it, was moved or removed while the run was under way; nothing more is written there`,
      );
    },
    release,
  };
}

/** Holds the lock only if what follows succeeds. */
async function orRelease<T>(lock: FolderLock, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    lock.release();
    throw error;
  }
}

/** Until `rounds` has moved, last of all, the run is not replaced: `settleReplacement` then puts the rest back. */
async function putAside(root: string, found: readonly string[]): Promise<void> {
  // Somebody may have removed it to make room.
  if (!found.includes(ROUNDS)) await mkdir(path.join(root, ROUNDS));
  const entries = [...new Set([...found, ROUNDS])];
  await mkdir(path.join(root, REPLACING));
  const others = entries.filter((entry) => !STAYING.has(entry) && entry !== RECORD && entry !== ROUNDS);
  for (const entry of [...others, RECORD, ROUNDS].filter((entry) => entries.includes(entry))) {
    await rename(path.join(root, entry), path.join(root, REPLACING, entry));
  }
  await settleReplacement(root);
}

/** Finishes what a kill in the middle of `putAside` left, or undoes it. */
async function settleReplacement(root: string): Promise<void> {
  const [replacing, replaced] = [path.join(root, REPLACING), path.join(root, REPLACED)];
  if (!existsSync(replacing)) return;
  if (existsSync(path.join(replacing, ROUNDS))) {
    // What an earlier replacement kept: the run that is replaced now has committed a round since.
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
    throw refusal(`${root} exists and is no run of prelort (it holds ${foreign}); choose another name (--set name=…)`);
}

/**
 * Refuses a run folder with links in place of its folders, or with something else's folder in their place: what is written, moved
 * and removed in them would lie elsewhere.
 */
async function requireFoldersWithin(root: string): Promise<void> {
  const entries = await readdir(root, { withFileTypes: true });
  for (const { name } of entries.filter((entry) => FOLDERS.has(entry.name))) {
    const folder = path.join(root, name);
    const links = entries.some((entry) => entry.name === name && entry.isSymbolicLink()) ? [folder] : await linksIn(folder);
    if (links[0]) throw refusal(`${links[0]} is a link, which may lead anywhere; put the folder itself in its place`);
  }
  if (entries.some(({ name }) => name === REPLACING)) requireRun(path.join(root, REPLACING), await readdir(path.join(root, REPLACING)));
}

async function linksIn(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((cause: unknown) => {
    throw readingError(folder, cause);
  });
  return entries.flatMap((entry) => (entry.isSymbolicLink() ? [path.join(folder, entry.name)] : []));
}

/** The run has made something: its rounds, or what is left of it where somebody removed those. */
function isUsed(entries: readonly string[]): boolean {
  return [ROUNDS, METRICS, ADAPTERS].some((entry) => entries.includes(entry));
}

/** Refuses a folder whose run nobody asked to replace. */
function requireUnused(root: string, entries: readonly string[]): void {
  if (isUsed(entries))
    throw refusal(`${root} already holds a run; overwrite (--overwrite) replaces it, another name (--set name=…) keeps both`);
  if (!entries.includes(REPLACED)) return;
  const kept = path.join(root, REPLACED);
  throw refusal(
    `${kept} holds the run that an earlier --overwrite was to replace; overwrite (--overwrite) replaces it, another name (--set name=…) keeps it`,
  );
}

function inUse(root: string, { isThisProcess, holder }: Refusal, remedy: string): ConfigError {
  // Another path to the same folder, as through a link or in a container.
  const place = holder && holder.folder !== root ? ` as ${holder.folder}` : "";
  const whose = holder === undefined ? "another process" : `process ${holder.pid} on ${holder.host}${place}`;
  const state = isThisProcess ? "has a run under way in this process" : `is in use by ${whose}`;
  return refusal(`${root} ${state}; ${remedy}`);
}

function refusal(message: string): ConfigError {
  return new ConfigError([{ path: "name", message }]);
}

function ignoreExisting(error: unknown): false {
  if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
  throw error;
}

const ROUNDS = "rounds";
const RECORD = "run.json";
/** The run that is being replaced, whole, and while it is being moved there. */
const REPLACED = "replaced";
const REPLACING = "replacing";
/** What a kill leaves of a file that was being written. */
const PARTIAL = /\.partial$/;
const METRICS = "metrics.jsonl";
const ADAPTERS = "adapters";
/** Those of a run folder. */
const FOLDERS = new Set([ROUNDS, ADAPTERS, "updates", "workers", REPLACED, REPLACING]);
const STAYING = new Set([LOCK, REPLACED, REPLACING]);
/** Everything a run writes into its folder; a folder that holds anything else is not ours to replace. */
const OURS = new Set([...STAYING, RECORD, "journal.jsonl", METRICS, "timings.jsonl", "data-files.json", ...FOLDERS, "report.html"]);
