import { type FileHandle, mkdir, open, readFile, rename, truncate, writeFile } from "node:fs/promises";
import path from "node:path";
import { EnvironmentError } from "../errors.ts";
import { parseJson } from "../tensor/json.ts";

/** Writes a file, here of parts that follow one another, whole or not at all: aside, flushed, then renamed, and that flushed too. */
export async function writeDurably(file: string, content: string | Iterable<Uint8Array>): Promise<void> {
  const folder = path.dirname(file);
  try {
    const made = await mkdir(folder, { recursive: true });
    const aside = `${file}.partial`;
    await withFile(aside, "w", async (handle) => {
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

export async function openLineLog(file: string): Promise<LineLog> {
  const handle = await open(file, "a");
  let pending: string[] = [];
  let closed = false;
  /** Once a line may be there in part, nothing follows it. */
  let failure: Error | undefined;
  let writing: Promise<void> | undefined;

  async function write(): Promise<void> {
    try {
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
      await handle.sync().catch((cause: unknown) => {
        throw writingError(file, cause);
      });
    },
    async close() {
      if (closed) return;
      closed = true;
      try {
        await settle();
      } finally {
        await handle.close();
      }
    },
  };
}

/** The whole lines of a JSON-lines file, up to what a kill or a power cut left half written, or the first that is not to be kept. */
export async function readLog(
  file: string,
  isKept: (entry: unknown) => boolean = () => true,
): Promise<{ readonly entries: readonly unknown[]; readonly end: number; readonly size: number }> {
  const content = await readFile(file).catch(() => Buffer.alloc(0));
  const entries: unknown[] = [];
  let end = 0;
  for (let next = content.indexOf(NEWLINE); next >= 0; next = content.indexOf(NEWLINE, end)) {
    const entry = parseJson(content.toString("utf8", end, next));
    if (entry === undefined || !isKept(entry)) break;
    entries.push(entry);
    end = next + 1;
  }
  return { entries, end, size: content.length };
}

/** Reads a JSON-lines file for going on with it: what follows the lines that it gives is cut off. */
export async function cutLog(file: string, isKept?: (entry: unknown) => boolean): Promise<readonly unknown[]> {
  const { entries, end, size } = await readLog(file, isKept);
  if (end < size) await truncate(file, end);
  return entries;
}

const NEWLINE = 0x0a;

/** Says of a full disk, or one that is not ours, what to do. */
export function writingError(file: string, cause: unknown): Error {
  const { code, message } = cause as NodeJS.ErrnoException;
  const remedy = code === "ENOSPC" || code === "EDQUOT" ? "make room on that disk" : "see that it can be written to";
  return new EnvironmentError(`${file} could not be written: ${message}`, `${remedy}, then go on with prelort resume`, { cause });
}

async function withFile(file: string, flags: string, use: (handle: FileHandle) => Promise<void>): Promise<void> {
  const handle = await open(file, flags);
  try {
    await use(handle);
  } finally {
    await handle.close();
  }
}
