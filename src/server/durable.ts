import { type FileHandle, mkdir, open, rename, writeFile } from "node:fs/promises";
import path from "node:path";

/** Writes a file, here of parts that follow one another, whole or not at all: aside, flushed, then renamed, and that flushed too. */
export async function writeDurably(file: string, content: string | Iterable<Uint8Array>): Promise<void> {
  const folder = path.dirname(file);
  const made = await mkdir(folder, { recursive: true });
  const aside = `${file}.partial`;
  await withFile(aside, "w", async (handle) => {
    await writeFile(handle, content);
    await handle.sync();
  });
  await rename(aside, file);
  for (const changed of made ? [folder, path.dirname(folder)] : [folder]) await withFile(changed, "r", (handle) => handle.sync());
}

/** A JSON-lines file that only grows. What could not be written is thrown at the next flush or close. */
export interface LineLog {
  append(entry: unknown): void;
  /** Resolves once everything appended is on the disk. */
  flush(): Promise<void>;
  close(): Promise<void>;
}

export async function openLineLog(file: string): Promise<LineLog> {
  const handle = await open(file, "a");
  let pending: string[] = [];
  let closed = false;
  const write = async () => {
    const lines = pending;
    pending = [];
    if (lines.length > 0) await handle.appendFile(lines.join(""));
  };
  return {
    append: (entry) => void pending.push(`${JSON.stringify(entry)}\n`),
    async flush() {
      await write();
      await handle.sync();
    },
    async close() {
      if (closed) return;
      closed = true;
      try {
        await write();
      } finally {
        await handle.close();
      }
    },
  };
}

async function withFile(file: string, flags: string, use: (handle: FileHandle) => Promise<void>): Promise<void> {
  const handle = await open(file, flags);
  try {
    await use(handle);
  } finally {
    await handle.close();
  }
}
