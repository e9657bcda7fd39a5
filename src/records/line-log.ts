import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import path from "node:path";
import { syncFolder, writingError } from "./durable-file.ts";

/** A JSON-lines file that only grows. A failed write is thrown by the next `written`, flush or close. */
export interface LineLog<T> {
  /** Written soon, so that it survives this process; `flush` makes it survive a power cut. */
  append(entry: T): void;
  /** Resolves once everything appended is in the file, though a power cut may still take it. */
  written(): Promise<void>;
  /** Resolves once everything appended is on disk. */
  flush(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Opens the file only when the first line is written, and then truncates it to its first `keep` bytes. `encode` turns an entry
 * into the value that is written as JSON. Never follows a link in place of the file.
 */
export function openLineLog<T>(
  file: string,
  { keep = Infinity, encode }: { keep?: number | undefined; encode(entry: T): unknown },
): LineLog<T> {
  let handle: FileHandle | undefined;
  let pending: string[] = [];
  let closed = false;
  /** After a failed write the last line may be incomplete, so nothing more is written. */
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
      pending.push(`${JSON.stringify(encode(entry))}\n`);
      writing ??= Promise.resolve().then(write);
    },
    written: settle,
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
  // A new file's name must survive a power cut, too.
  if (size === 0) await syncFolder(path.dirname(file));
  return handle;
}
