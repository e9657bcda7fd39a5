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

/**
 * Reads a JSON-lines file of any size, line by line; an absent file has no lines. Returns the offset at which the last complete line
 * ends: the rest was still being written when its writer was killed. `from`: the offset at which to start; lines are numbered from
 * there.
 */
export async function readJsonLines(file: string | FileHandle, each: (line: JsonLine) => void, from = 0): Promise<number> {
  let [number, end] = [0, from];
  let partial: Uint8Array[] = [];
  const emit = (bytes: Buffer): void => {
    number++;
    end += bytes.length + 1;
    each(isUtf8(bytes) ? decodeLine(number, bytes) : { number, text: "", value: undefined });
  };
  await withFile(file, async (handle) => {
    for await (const piece of piecesOf(handle, from)) {
      let start = 0;
      for (let next = piece.indexOf(NEWLINE); next >= 0; next = piece.indexOf(NEWLINE, start)) {
        const rest = piece.subarray(start, next);
        emit(partial.length === 0 ? rest : Buffer.concat([...partial, rest]));
        partial = [];
        start = next + 1;
      }
      // Copied, since the next piece is read into the same memory.
      if (start < piece.length) partial.push(Buffer.from(piece.subarray(start)));
    }
  });
  return end;
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

/** Opens a file to be read several times; undefined if there is no such file. */
export async function openIfThere(file: string): Promise<FileHandle | undefined> {
  return open(file, READ).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
}

/** Returns undefined if there is no such file. One that is open already remains open. */
async function withFile<T>(file: string | FileHandle, use: (handle: FileHandle) => Promise<T>): Promise<T | undefined> {
  if (typeof file !== "string") return use(file);
  try {
    const handle = await openIfThere(file);
    if (!handle) return undefined;
    try {
      return await use(handle);
    } finally {
      await handle.close();
    }
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

/** prelort writes no lines that are too long for a string. */
function decodeLine(number: number, bytes: Buffer): JsonLine {
  if (bytes.length > LARGEST_LINE) return { number, text: "", value: undefined };
  const text = bytes.toString("utf8");
  return { number, text, value: parseJson(text) };
}

const LARGEST_LINE = 2 ** 28;
