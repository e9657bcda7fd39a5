import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { parseJson } from "../base/json.ts";

/*
 * Reads the ends of files that may be large, be written to meanwhile, or come from somebody else: no link is followed and no pipe is
 * waited for.
 */

const READ = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW;
const NEWLINE = 0x0a;

/** What `use` makes of a regular file; undefined if there is none that can be read. */
export async function withRegularFile<T>(file: string, use: (handle: FileHandle, size: number) => Promise<T>): Promise<T | undefined> {
  const handle = await open(file, READ).catch(() => undefined);
  if (!handle) return undefined;
  try {
    const status = await handle.stat();
    return status.isFile() ? await use(handle, status.size) : undefined;
  } finally {
    await handle.close();
  }
}

export async function readBytes(handle: FileHandle, start: number, end: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(Math.max(0, end - start));
  let done = 0;
  while (done < buffer.length) {
    const { bytesRead } = await handle.read(buffer, done, buffer.length - done, start + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return buffer.subarray(0, done);
}

/** The last bytes of a file, from the start of a line unless that line is longer. */
export async function readTail(file: string, bytes: number): Promise<{ readonly text: string; readonly isWhole: boolean } | undefined> {
  return withRegularFile(file, async (handle, size) => {
    const start = Math.max(0, size - bytes);
    const buffer = await readBytes(handle, start, size);
    const first = start === 0 ? 0 : buffer.indexOf(NEWLINE) + 1;
    return { text: buffer.toString("utf8", first), isWhole: start === 0 };
  });
}

/**
 * The last complete line of a JSON-lines file for which `find` finds something, reading as little of its end as it can. A last line
 * without its newline is still being written.
 */
export async function findLast<T>(file: string, find: (value: unknown) => T | undefined): Promise<T | undefined> {
  return withRegularFile(file, async (handle, size) => {
    let rest = Buffer.alloc(0);
    let isComplete = false;
    for (let end = size, step = FIRST_STEP; end > 0; step *= 2) {
      const start = Math.max(0, end - step);
      const bytes = Buffer.concat([await readBytes(handle, start, end), rest]);
      const lines = splitLines(bytes, start === 0);
      for (const [index, line] of lines.lines.toReversed().entries()) {
        if (index === 0 && !isComplete) continue;
        const found = line.length > 0 ? find(parseJson(line.toString("utf8"))) : undefined;
        if (found !== undefined) return found;
      }
      isComplete ||= lines.lines.length > 0;
      rest = lines.head;
      end = start;
    }
    return undefined;
  });
}

const FIRST_STEP = 2 ** 15;

/** Pieces after each newline, and what is before the first; all of it at the file's start. */
function splitLines(
  bytes: Buffer<ArrayBuffer>,
  isStart: boolean,
): { readonly head: Buffer<ArrayBuffer>; readonly lines: readonly Buffer[] } {
  const lines: Buffer[] = [];
  const first = isStart ? 0 : bytes.indexOf(NEWLINE) + 1;
  if (first === 0 && !isStart) return { head: bytes, lines };
  let start = first;
  for (let next = bytes.indexOf(NEWLINE, start); next >= 0; next = bytes.indexOf(NEWLINE, start)) {
    lines.push(bytes.subarray(start, next));
    start = next + 1;
  }
  lines.push(bytes.subarray(start));
  return { head: Buffer.from(bytes.subarray(0, first)), lines };
}
