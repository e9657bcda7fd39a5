import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { parseJson } from "../base/json.ts";

/*
 * Reads the ends of files that may be large, be written to meanwhile, or come from somebody else: no link is followed and no pipe is
 * waited for.
 */

const READ = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW;
const NEWLINE = 0x0a;
/** Bytes of the longest line that a page shows: less than a run may write. */
export const LARGEST_LINE = 2 ** 26;

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

/** A file's bytes in pieces of a MiB, from an offset; each is overwritten by the next. */
export async function* readPieces(handle: FileHandle, start: number, end: number): AsyncGenerator<Buffer, void> {
  const buffer = Buffer.allocUnsafe(Math.max(0, Math.min(LARGEST_STEP, end - start)));
  for (let at = start; at < end;) {
    const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.length, end - at), at);
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
    at += bytesRead;
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
 * The last complete line of a JSON-lines file for which `find` finds something, reading as little of its end as it can: undefined if
 * it is not within the last `LARGEST_SEARCH` bytes. A last line without its newline is still being written, and one that is longer than
 * `LARGEST_LINE` is left out.
 */
export async function findLast<T>(file: string, find: (value: unknown) => T | undefined): Promise<T | undefined> {
  return withRegularFile(file, async (handle, size) => {
    const rest = createRest();
    const first = Math.max(0, size - LARGEST_SEARCH);
    let isComplete = false;
    for (let end = size, step = FIRST_STEP; end > first; step = Math.min(2 * step, LARGEST_STEP)) {
      const start = Math.max(first, end - step);
      const bytes = await readBytes(handle, start, end);
      let stop = bytes.length;
      while (stop > 0) {
        const newline = bytes.lastIndexOf(NEWLINE, stop - 1);
        if (newline < 0) break;
        rest.prepend(bytes.subarray(newline + 1, stop));
        const found = rest.take(isComplete ? find : ignore);
        if (found !== undefined) return found;
        isComplete = true;
        stop = newline;
      }
      rest.prepend(bytes.subarray(0, stop));
      end = start;
    }
    return isComplete && first === 0 ? rest.take(find) : undefined;
  });
}

const FIRST_STEP = 2 ** 15;
const LARGEST_STEP = 2 ** 20;
/** A file that is larger was hardly written by prelort: looking through all of it would hold up the list of all runs. */
const LARGEST_SEARCH = 4 * LARGEST_LINE;

const ignore = () => undefined;

/** A line that is read from its end. One that is too long takes no memory. */
function createRest() {
  let pieces: Buffer[] = [];
  let length = 0;
  return {
    prepend(piece: Buffer): void {
      length += piece.length;
      if (length > LARGEST_LINE) pieces = [];
      else if (piece.length > 0) pieces.push(piece);
    },
    take<T>(find: (value: unknown) => T | undefined): T | undefined {
      const isReadable = length > 0 && length <= LARGEST_LINE && find !== ignore;
      const found = isReadable ? find(parseJson(Buffer.concat(pieces.toReversed()).toString("utf8"))) : undefined;
      [pieces, length] = [[], 0];
      return found;
    },
  };
}
