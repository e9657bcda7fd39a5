import { closeSync, constants, fstatSync, ftruncateSync, openSync, readSync, rmSync, writevSync } from "node:fs";
import { open } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { RefusedError } from "../errors.ts";
import { readIfThere } from "../base/read-file.ts";
import { decodeHeader, encodeRaw, type RawTensor, type SafetensorsHeader } from "../tensor/safetensors.ts";

/*
 * Safetensors files with a checksum, of what a worker answered and its tensors: a file may be cut short by a power cut, or
 * be half overwritten.
 */

/** A file's content. `answer` is text that the checksum covers; other metadata is not covered. */
export interface CheckedContent {
  readonly answer: string;
  readonly tensors: ReadonlyMap<string, Uint8Array>;
}

/** Writes a file completely before this resolves, reusing the disk space of one with that name. `metadata` gets the checksum. */
export async function writeChecked(file: string, ...content: Parameters<typeof encodeChecked>): Promise<void> {
  await writeOver(file, encodeChecked(...content));
}

/** A file in parts, with its checksum. */
export function encodeChecked(
  answer: string,
  tensors: ReadonlyMap<string, RawTensor>,
  metadata: Readonly<Record<string, string>>,
): readonly Uint8Array[] {
  const crc = checksum(answer, new Map([...tensors].map(([name, { bytes }]) => [name, bytes])));
  return [...encodeRaw(tensors, { ...metadata, crc32: `${crc}` })];
}

/** A whole file. Throws a RefusedError, with what was `wanted`, if there is none. */
export async function readTensors(
  file: string,
  wanted: string,
): Promise<{ readonly tensors: ReadonlyMap<string, Uint8Array>; readonly metadata: Readonly<Record<string, string>> }> {
  const content = await readIfThere(file);
  if (!content) throw new RefusedError(file, wanted, "no such file");
  const { tensors, metadata } = decodeHeader(content, content.length, file);
  return { tensors: new Map([...tensors].map(([name, { from, to }]) => [name, content.subarray(from, to)])), metadata };
}

/** Throws a RefusedError for a file with another checksum. */
export function requireChecksum(file: string, { answer, tensors }: CheckedContent, crc: string): void {
  if (checksum(answer, tensors) !== Number(crc)) throw new RefusedError(file, "its checksum", "another");
}

/** Best effort: a file that cannot be removed is overwritten later, or refused when it is read. */
export function removeQuietly(file: string): void {
  try {
    rmSync(file, { force: true });
  } catch {}
}

function checksum(answer: string, tensors: ReadonlyMap<string, Uint8Array>): number {
  const inOrder = [...tensors].toSorted(([a], [b]) => (a < b ? -1 : 1));
  return inOrder.reduce((crc, [, bytes]) => checksumOf(bytes, crc), crc32(answer));
}

/** zlib counts the bytes of one call in 32 bits. */
function checksumOf(bytes: Uint8Array, begin: number): number {
  let crc = begin;
  for (let from = 0; from < bytes.length; from += LARGEST_PIECE) crc = crc32(bytes.subarray(from, from + LARGEST_PIECE), crc);
  return crc;
}

export function readHeader(file: string): SafetensorsHeader {
  return withFile(file, (fd) => {
    const { size } = fstatSync(fd);
    const beginning = readAt(fd, 0, Math.min(size, LARGEST_HEADER));
    return decodeHeader(beginning, size, file);
  });
}

async function writeOver(file: string, parts: readonly Uint8Array[]): Promise<void> {
  const total = parts.reduce((sum, { length }) => sum + length, 0);
  if (total <= FEW_BYTES) {
    const fd = openSync(file, WRITE_OVER, 0o600);
    try {
      if (writevSync(fd, parts, 0) !== total) throw new Error("the disk is full");
      ftruncateSync(fd, total);
    } finally {
      closeSync(fd);
    }
    return;
  }
  const handle = await open(file, WRITE_OVER, 0o600);
  try {
    let at = 0;
    for (const part of parts) {
      for (let done = 0; done < part.length;) {
        const { bytesWritten } = await handle.write(part, done, Math.min(part.length - done, LARGEST_PIECE), at);
        [done, at] = [done + bytesWritten, at + bytesWritten];
      }
    }
    await handle.truncate(total);
  } finally {
    await handle.close();
  }
}

export function withFile<T>(file: string, use: (fd: number) => T): T {
  const fd = openSync(file, READ);
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}

export function readAt(fd: number, from: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length;) {
    const count = readSync(fd, bytes, done, Math.min(length - done, LARGEST_PIECE), from + done);
    if (count === 0) throw new RefusedError("a recorded fit", `${from + length} bytes`, `${from + done}`);
    done += count;
  }
  return bytes;
}

/** Written synchronously: handing it to another thread would cost more. */
const FEW_BYTES = 65536;
/** Our headers are never larger. */
const LARGEST_HEADER = 65536;
/** One call reads, writes or hashes less than 2 GiB. */
const LARGEST_PIECE = 2 ** 30;
const WRITE_OVER = constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK;
/** Does not wait for a pipe in place of a file. */
const READ = constants.O_RDONLY | constants.O_NONBLOCK;
