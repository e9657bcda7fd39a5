import { closeSync, constants, fstatSync, ftruncateSync, lstatSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { hostname } from "node:os";
import path from "node:path";
import process from "node:process";
import { setTimeout } from "node:timers/promises";
import { z } from "zod";
import { EnvironmentError } from "../errors.ts";
import { isDead } from "../base/is-dead.ts";
import { parseJson } from "../base/json.ts";

/*
 * One controller holds a run folder at a time. The kernel keeps the lock on the file `lock`, which remains open while the run is
 * under way: no other process can take it, in whatever container it runs, and it is freed when its process ends for any reason.
 * Child processes do not inherit it, since Node opens files close-on-exec. The file's text is for people.
 */

const holderSchema = z.strictObject({
  pid: z.number().int().positive(),
  host: z.string(),
  /** Absolute path of the run folder, as the holder saw it. */
  folder: z.string(),
  /** Inode of the lock file itself, which a copy of the folder does not share. */
  inode: z.string(),
});
/** The process that holds a run folder, or held it when it was killed. */
export type Holder = z.infer<typeof holderSchema>;

export interface FolderLock {
  /** The holder of the folder that this one was copied from, lock and all, while a run was under way in it. */
  readonly copyOf: Holder | undefined;
  /** The lock file is where it was created: the folder was not moved, removed or replaced. */
  isInPlace(): boolean;
  /** Safe to call twice. */
  release(): void;
}

/** Another process holds the folder; `holder` is unknown for an instant after it took the lock. */
export interface Refusal {
  readonly isThisProcess: boolean;
  readonly holder: Holder | undefined;
}

/** File in a folder that a run holds, or held when its process was killed. */
export const LOCK = "lock";

/** Inodes of the lock files held by this process. */
const held = new Set<string>();

/** Takes the lock of a folder, which must exist. Throws system errors, and an EnvironmentError if files cannot be locked. */
export async function takeLock(folder: string): Promise<FolderLock | Refusal> {
  const file = path.join(folder, LOCK);
  while (true) {
    const fd = openLock(file);
    let taken: FolderLock | Refusal | undefined;
    try {
      taken = await take(fd, file);
    } finally {
      if (!taken || isRefusal(taken)) closeSync(fd);
    }
    if (taken) return taken;
  }
}

/** Who holds a folder; true if that is not known, false if nobody does. Takes nothing away from whoever wants to hold it. */
export async function isHeld(folder: string): Promise<Holder | boolean> {
  const file = path.join(folder, LOCK);
  let fd: number;
  try {
    fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return false;
  }
  try {
    return fstatSync(fd).isFile() && !(await tryLock(fd, file, { shared: true })) && (read(fd) ?? true);
  } finally {
    closeSync(fd);
  }
}

/** Undefined if the last holder removed the file after we had opened it: locking it would protect nothing. */
async function take(fd: number, file: string): Promise<FolderLock | Refusal | undefined> {
  const { dev, ino } = fstatSync(fd, { bigint: true });
  const key = `${dev}:${ino}`;
  if (!(await lockSoon(fd, file))) return { isThisProcess: held.has(key), holder: whileAlive(read(fd)) };
  return keyOf(file) === key ? keep(fd, file, key, `${ino}`) : undefined;
}

/** The text may be of an earlier holder, if somebody else locks the file. */
function whileAlive(holder: Holder | undefined): Holder | undefined {
  return holder?.host === hostname() && isDead(holder.pid) ? undefined : holder;
}

/** Identity of the file that is there now; undefined if none. */
function keyOf(file: string): string | undefined {
  const now = lstatSync(file, { bigint: true, throwIfNoEntry: false });
  return now && `${now.dev}:${now.ino}`;
}

export function isRefusal(taken: FolderLock | Refusal): taken is Refusal {
  return "isThisProcess" in taken;
}

function keep(fd: number, file: string, key: string, inode: string): FolderLock {
  const folder = path.dirname(file);
  const left = read(fd);
  // A moved folder keeps its inode; one restored from a backup keeps its path.
  const isCopy = left !== undefined && left.inode !== inode && left.folder !== folder;
  ftruncateSync(fd);
  writeSync(fd, `${JSON.stringify({ pid: process.pid, host: hostname(), folder, inode } satisfies Holder)}\n`, 0);
  held.add(key);
  let isReleased = false;
  const isInPlace = () => keyOf(file) === key;
  return {
    copyOf: isCopy ? left : undefined,
    isInPlace,
    release() {
      if (isReleased) return;
      isReleased = true;
      held.delete(key);
      try {
        // Removed while still locked: a process that opened it before notices and tries again.
        if (isInPlace()) rmSync(file, { force: true });
      } catch {
        // A file that is left behind locks nothing.
      } finally {
        closeSync(fd);
      }
    },
  };
}

/** Never follows a link or writes to a pipe in place of the lock: a folder from elsewhere may contain one. */
function openLock(file: string): number {
  const fd = openSync(file, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK, 0o644);
  if (fstatSync(fd).isFile()) return fd;
  closeSync(fd);
  throw new EnvironmentError(`${file} is not a regular file`, "find out what it is, then remove it");
}

/** Whoever only asks who holds the folder has it for an instant. */
async function lockSoon(fd: number, file: string): Promise<boolean> {
  for (let tries = 1; ; tries++) {
    if (await tryLock(fd, file)) return true;
    if (tries === ATTEMPTS) return false;
    await setTimeout(BETWEEN_MS);
  }
}

const ATTEMPTS = 3;
const BETWEEN_MS = 10;

async function tryLock(fd: number, file: string, options: { readonly shared?: boolean } = {}): Promise<boolean> {
  const { tryLock: lock } = await import("fs-native-extensions").catch((cause: unknown) => {
    const system = `${process.platform}-${process.arch}`;
    throw new EnvironmentError(
      `files cannot be locked on this system (${system}): the package fs-native-extensions has no build for it`,
      "run prelort on Linux with glibc, or on macOS, x64 or arm64",
      { cause },
    );
  });
  try {
    return lock(fd, 0, 0, options);
  } catch (cause) {
    const problem = `${file} cannot be locked: ${(cause as Error).message}; its file system does not support locks`;
    throw new EnvironmentError(problem, "choose a folder on another file system (--set runs_dir=…)", { cause });
  }
}

function read(fd: number): Holder | undefined {
  const buffer = Buffer.alloc(16_384);
  const length = readSync(fd, buffer, 0, buffer.length, 0);
  return holderSchema.safeParse(parseJson(buffer.toString("utf8", 0, length))).data;
}
