import { open } from "node:fs/promises";
import { stripVTControlCharacters } from "node:util";

const MAX_BYTES = 16 * 1024;
const MAX_LINES = 20;

/** The last lines of a log, for an error; undefined if it is empty. Rejects if there is no such file. */
export async function readLogTail(path: string): Promise<string | undefined> {
  const file = await open(path);
  try {
    const { size } = await file.stat();
    const start = Math.max(0, size - MAX_BYTES);
    const { buffer, bytesRead } = await file.read({ buffer: Buffer.alloc(size - start), position: start });
    const text = stripVTControlCharacters(buffer.toString("utf8", 0, bytesRead)).trimEnd();
    return text.split("\n").slice(-MAX_LINES).join("\n") || undefined;
  } finally {
    await file.close();
  }
}
