import { constants } from "node:fs";
import { type FileHandle, mkdir, open, rename, writeFile } from "node:fs/promises";
import path from "node:path";
import { EnvironmentError } from "../errors.ts";

/* Writes what a run leaves on disk. A link in the place of a file is never followed: a folder that came from elsewhere may hold one. */

/** Writes a file, here of parts that follow one another, whole or not at all: aside, flushed, then renamed, and that flushed too. */
export async function writeDurably(file: string, content: string | Iterable<Uint8Array>): Promise<void> {
  const folder = path.dirname(file);
  try {
    const made = await mkdir(folder, { recursive: true });
    const aside = `${file}.partial`;
    await withFile(aside, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW, async (handle) => {
      await writeFile(handle, content);
      await handle.sync();
    });
    await rename(aside, file);
    for (const changed of made ? [folder, path.dirname(folder)] : [folder]) await withFile(changed, "r", (handle) => handle.sync());
  } catch (cause) {
    throw writingError(file, cause);
  }
}

/** A JSON-lines file that only grows. What could not be written is thrown at the next flush or close. */
export interface LineLog {
  /** Is written soon, so that it outlasts this process; with `flush` it outlasts the machine's. */
  append(entry: unknown): void;
  /** Resolves once everything appended is on the disk. */
  flush(): Promise<void>;
  close(): Promise<void>;
}

/** The file is opened, and what follows its first `keep` bytes is cut off, when the first line is written; until then it stays as it is. */
export function openLineLog(file: string, keep = Infinity): LineLog {
  let handle: FileHandle | undefined;
  let pending: string[] = [];
  let closed = false;
  /** Once a line may be there in part, nothing follows it. */
  let failure: Error | undefined;
  let writing: Promise<void> | undefined;

  async function write(): Promise<void> {
    try {
      handle ??= await openToAppend(file, keep);
      while (pending.length > 0) {
        const lines = pending.join("");
        pending = [];
        await handle.appendFile(lines);
      }
    } catch (cause) {
      failure = writingError(file, cause);
    }
    writing = undefined;
  }
  async function settle(): Promise<void> {
    await writing;
    if (failure) throw failure;
  }
  return {
    append(entry) {
      if (failure) return;
      pending.push(`${JSON.stringify(entry)}\n`);
      writing ??= Promise.resolve().then(write);
    },
    async flush() {
      await settle();
      await handle?.sync().catch((cause: unknown) => {
        throw writingError(file, cause);
      });
    },
    async close() {
      if (closed) return;
      closed = true;
      try {
        await settle();
      } finally {
        await handle?.close();
      }
    },
  };
}

async function openToAppend(file: string, keep: number): Promise<FileHandle> {
  const handle = await open(
    file,
    constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK,
  );
  const { size } = await handle.stat();
  if (size > keep) await handle.truncate(keep);
  return handle;
}

/** Says of a full disk, or one that is not ours, what to do. */
export function writingError(file: string, cause: unknown): Error {
  const { code, message } = cause as NodeJS.ErrnoException;
  const remedy = code === "ENOSPC" || code === "EDQUOT" ? "make room on that disk" : "see that it can be written to";
  return new EnvironmentError(`${file} could not be written: ${message}`, `${remedy}, then go on with prelort resume`, { cause });
}

async function withFile(file: string, flags: string | number, use: (handle: FileHandle) => Promise<void>): Promise<void> {
  const handle = await open(file, flags);
  try {
    await use(handle);
  } finally {
    await handle.close();
  }
}
