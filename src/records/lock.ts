import { closeSync, constants, fstatSync, ftruncateSync, lstatSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { hostname } from "node:os";
import path from "node:path";
import process from "node:process";
import { z } from "zod";
import { EnvironmentError } from "../errors.ts";
import { parseJson } from "../base/json.ts";

/*
 * One controller holds a run folder at a time. The kernel keeps the lock, on a descriptor of the file `lock` that stays open as
 * long as the run: no other process can take it, whatever namespace or container it lives in, and it ends with its process,
 * however that dies. Child processes do not inherit it, since Node opens files close-on-exec. What the file says is for people.
 */

const holderSchema = z.strictObject({
  pid: z.number().int().positive(),
  host: z.string(),
  /** Absolute path of the run folder, as the holder saw it. */
  folder: z.string(),
  /** Inode of the lock file itself, which a copy of the folder does not share. */
  inode: z.string(),
});
/** Who holds a run folder, or held it when it was killed. */
export type Holder = z.infer<typeof holderSchema>;

export interface FolderLock {
  /** Whose folder this one was copied from, lock and all, while a run was under way in it. */
  readonly copyOf: Holder | undefined;
  /** The lock file lies where it was made: nobody has moved or removed the folder, or put another in its place. */
  isInPlace(): boolean;
  /** Safe to call twice. */
  release(): void;
}

/** Who keeps us from a folder; `holder` is unknown for an instant after it took the lock. */
export interface Refusal {
  readonly isThisProcess: boolean;
  readonly holder: Holder | undefined;
}

/** Name of the file that stands in a folder while a run holds it, or after its process was killed. */
export const LOCK = "lock";

/** Inodes of the lock files held by this process. */
const held = new Set<string>();

/** Takes the lock of a folder, which must exist. Throws system errors, and an EnvironmentError where files cannot be locked. */
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

/** Undefined where the last holder removed the file after we had opened it: its lock would protect nothing. */
async function take(fd: number, file: string): Promise<FolderLock | Refusal | undefined> {
  const { dev, ino } = fstatSync(fd, { bigint: true });
  const key = `${dev}:${ino}`;
  if (!(await isLocked(fd, file))) return { isThisProcess: held.has(key), holder: read(fd) };
  return keyOf(file) === key ? keep(fd, file, key, `${ino}`) : undefined;
}

/** Which file lies there now; undefined if none. */
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
  // A folder that was moved has the inode still; one that was restored from a backup, its place.
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
        // Removed while it is still locked: whoever opened it before finds that out and tries again.
        if (isInPlace()) rmSync(file, { force: true });
      } catch {
        // What stays locks nothing.
      } finally {
        closeSync(fd);
      }
    },
  };
}

/** A folder may come from elsewhere: a link or a pipe in place of the lock is neither followed nor written to. */
function openLock(file: string): number {
  const fd = openSync(file, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK, 0o644);
  if (fstatSync(fd).isFile()) return fd;
  closeSync(fd);
  throw new EnvironmentError(`${file} is not a plain file`, "remove it once you know what it is");
}

async function isLocked(fd: number, file: string): Promise<boolean> {
  const { tryLock } = await import("fs-native-extensions").catch((cause: unknown) => {
    const system = `${process.platform}-${process.arch}`;
    throw new EnvironmentError(
      `files cannot be locked on this system (${system}): the package fs-native-extensions has no build for it`,
      "run prelort on Linux with glibc, or on macOS, x64 or arm64",
      { cause },
    );
  });
  try {
    return tryLock(fd);
  } catch (cause) {
    const problem = `${file} cannot be locked: ${(cause as Error).message}; its file system has no locks`;
    throw new EnvironmentError(problem, "choose a folder on another file system (--set runs_dir=…)", { cause });
  }
}

function read(fd: number): Holder | undefined {
  const buffer = Buffer.alloc(16_384);
  const length = readSync(fd, buffer, 0, buffer.length, 0);
  return holderSchema.safeParse(parseJson(buffer.toString("utf8", 0, length))).data;
}
