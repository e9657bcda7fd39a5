import { isUtf8 } from "node:buffer";
import { createHash } from "node:crypto";
import { constants, type Stats, statSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { EnvironmentError } from "../errors.ts";
import { parseJson } from "./json.ts";

/*
 * Reads files. Only ENOENT means that a file is absent. Any other failure is an error: treating it as absence could lead to
 * overwriting a file that could not be read. Files are read in pieces, since one call reads less than 2 GiB.
 */

/** A file's bytes; undefined if there is no such file. */
export async function readIfThere(file: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
  return withFile(file, async (handle) => {
    const { size } = await handle.stat();
    const bytes = new Uint8Array(size);
    let done = 0;
    for (;;) {
      const { bytesRead } = await handle.read(bytes, done, Math.min(LARGEST_READ, size - done), done);
      done += bytesRead;
      if (bytesRead === 0 || done === size) return bytes.subarray(0, done);
    }
  });
}

/** A file's text; undefined if there is no such file. */
export async function readTextIfThere(file: string): Promise<string | undefined> {
  return withFile(file, (handle) => handle.readFile("utf8"));
}

/** SHA-256 of a file, without loading it into memory; undefined if there is no such file. */
export async function hashIfThere(file: string): Promise<string | undefined> {
  return withFile(file, async (handle) => {
    const hash = createHash("sha256");
    for await (const piece of piecesOf(handle)) hash.update(piece);
    return hash.digest("hex");
  });
}

/** Whether a file or folder exists. Throws an EnvironmentError if that cannot be determined. */
export function isThere(path: string): boolean {
  return statIfThere(path) !== undefined;
}

/** Whether a file, not a folder, exists. Throws an EnvironmentError if that cannot be determined. */
export function isFile(path: string): boolean {
  return statIfThere(path)?.isFile() ?? false;
}

function statIfThere(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch (cause) {
    throw readingError(path, cause);
  }
}

/** A line of a JSON-lines file that ends in a newline. */
export interface JsonLine {
  /** From 1. */
  readonly number: number;
  readonly text: string;
  /** Undefined if the line is not JSON. */
  readonly value: unknown;
}

/** Complete lines that were read together, and the offset at which the last of them ends. */
export interface JsonLines {
  readonly lines: readonly JsonLine[];
  readonly end: number;
}

/**
 * Reads a JSON-lines file of any size, line by line; an absent file has no lines. Returns the offset at which the last complete line
 * ends: the rest was still being written when its writer was killed. `from`: the offset at which to start; lines are numbered from
 * there. The event loop runs at least once per MiB.
 */
export async function readJsonLines(file: string, each: (line: JsonLine) => void, from = 0): Promise<number> {
  let last = from;
  for await (const { lines, end } of jsonLines(file, from)) {
    for (const line of lines) each(line);
    last = end;
  }
  return last;
}

/**
 * The same in pieces of about a MiB, for readers that wait between them. The file remains open until the last was taken; one that is
 * `opened` already is not closed.
 */
export async function* jsonLines(file: string, from = 0, opened?: FileHandle): AsyncGenerator<JsonLines, void> {
  const handle = opened ?? (await openIfThere(file));
  if (!handle) return;
  try {
    let [number, end] = [0, from];
    const line = createPartialLine();
    const pieces = piecesOf(handle, from);
    for (let next = await guard(file, () => pieces.next()); !next.done; next = await guard(file, () => pieces.next())) {
      const piece = next.value;
      const lines: JsonLine[] = [];
      let start = 0;
      for (let newline = piece.indexOf(NEWLINE); newline >= 0; newline = piece.indexOf(NEWLINE, start)) {
        line.add(piece.subarray(start, newline));
        lines.push(decodeLine(++number, line.take()));
        end = from + line.taken();
        start = newline + 1;
      }
      line.add(piece.subarray(start));
      line.keep();
      if (lines.length > 0) yield { lines, end };
    }
  } finally {
    if (!opened) await handle.close();
  }
}

/** Opens a regular file to be read several times; undefined if there is no such file. */
export async function openIfThere(file: string): Promise<FileHandle | undefined> {
  return guard(file, () => openRegular(file));
}

/** A line that is read in pieces. One that is longer than `LARGEST_LINE` takes no memory: it is counted and left out. */
function createPartialLine() {
  let pieces: Buffer[] = [];
  let [length, taken] = [0, 0];
  return {
    add(piece: Buffer): void {
      length += piece.length;
      if (length > LARGEST_LINE) pieces = [];
      else if (piece.length > 0) pieces.push(piece);
    },
    /** Copies the last piece, since the next one is read into the same memory. */
    keep(): void {
      const last = pieces.pop();
      if (last) pieces.push(Buffer.from(last));
    },
    /** The line's bytes; undefined if it is too long. */
    take(): Buffer | undefined {
      const whole = length > LARGEST_LINE ? undefined : pieces.length === 1 ? pieces[0] : Buffer.concat(pieces);
      taken += length + 1;
      [pieces, length] = [[], 0];
      return whole;
    },
    /** Bytes of all lines so far, with their newlines. */
    taken: () => taken,
  };
}

/** The last complete line of a JSON-lines file; undefined if there is none, or it is longer than 64 KiB or not JSON. */
export async function readLastJsonLine(file: string): Promise<unknown> {
  return withFile(file, async (handle) => {
    const { size } = await handle.stat();
    const start = Math.max(0, size - LONGEST_LAST_LINE);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(size - start), 0, size - start, start);
    return parseJson(buffer.toString("utf8", 0, bytesRead).split("\n").at(-2) ?? "");
  });
}

const LONGEST_LAST_LINE = 65536;

/** An error that says which file could not be read, why, and what to do. */
export function readingError(file: string, cause: unknown): Error {
  const { code, message } = cause as NodeJS.ErrnoException;
  const remedy = REMEDIES[code ?? ""] ?? "make the file readable, then try again";
  return new EnvironmentError(`${file} could not be read: ${message}`, remedy, { cause });
}

/** Non-blocking, since opening a pipe could block forever. */
const READ = constants.O_RDONLY | constants.O_NONBLOCK;
const LARGEST_READ = 2 ** 30;
const PIECE_BYTES = 2 ** 20;
const NEWLINE = 0x0a;

const REMEDIES: Readonly<Record<string, string>> = {
  EACCES: "give your user permission to read it, then try again",
  EPERM: "give your user permission to read it, then try again",
  EISDIR: "there is a folder where a file should be; restore the file, then try again",
  ENOTDIR: "there is a file where a folder should be; restore the folder, then try again",
  EMFILE: "raise the limit on open files (ulimit -n), then try again",
  ENFILE: "close programs that hold many files open, then try again",
  EIO: "the disk failed to read it; check the disk, or restore the file from a copy",
};

/** Returns undefined if there is no such file. */
async function withFile<T>(file: string, use: (handle: FileHandle) => Promise<T>): Promise<T | undefined> {
  return guard(file, async () => {
    const handle = await openRegular(file);
    if (!handle) return undefined;
    try {
      return await use(handle);
    } finally {
      await handle.close();
    }
  });
}

/**
 * Undefined if there is no such file. A pipe may never end, and a device such as `/dev/zero` never does. A folder is left to the first
 * read, whose error names it.
 */
async function openRegular(file: string): Promise<FileHandle | undefined> {
  const handle = await open(file, READ).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (!handle) return undefined;
  const status = await handle.stat();
  if (status.isFile() || status.isDirectory()) return handle;
  await handle.close();
  throw new EnvironmentError(`${file} is not a regular file`, "find out what it is, then remove it");
}

/** Gives system errors the words of `readingError`. */
async function guard<T>(file: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (cause) {
    throw cause instanceof Error && ("code" in cause || cause instanceof RangeError) ? readingError(file, cause) : cause;
  }
}

/** Yields views of the same memory. */
async function* piecesOf(handle: FileHandle, from = 0): AsyncGenerator<Buffer> {
  const buffer = Buffer.allocUnsafe(PIECE_BYTES);
  for (let at = from; ;) {
    const { bytesRead } = await handle.read(buffer, 0, PIECE_BYTES, at);
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
    at += bytesRead;
  }
}

function decodeLine(number: number, bytes: Buffer | undefined): JsonLine {
  if (!bytes || !isUtf8(bytes)) return { number, text: "", value: undefined };
  const text = bytes.toString("utf8");
  return { number, text, value: parseJson(text) };
}

/** Bytes of the longest line that is read. A round of a million clients takes a hundred MB. */
export const LARGEST_LINE = 2 ** 28;
