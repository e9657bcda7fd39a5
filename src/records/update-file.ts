import { closeSync, constants, fstatSync, ftruncateSync, openSync, readSync, rmSync, writevSync } from "node:fs";
import { open } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { z } from "zod";
import { RefusedError } from "../errors.ts";
import type { TensorDescriptor } from "../protocol/fields.ts";
import { PROTOCOL_VERSION } from "../protocol/limits.ts";
import { workerMessage, type WorkerMessageOf } from "../protocol/messages.ts";
import { decode, type Encoded, encodedBytes, wholeGroups } from "../tensor/encoded.ts";
import { parseJson } from "../base/json.ts";
import { decodeHeader, encodeRaw, type SafetensorsHeader } from "../tensor/safetensors.ts";
import type { Payload, Reply } from "../workers/task.ts";
import { readIfThere } from "../base/read-file.ts";

/*
 * A client's update on disk: a safetensors file with the tensors in the worker's encoding, and the worker's answer in its
 * metadata. It names the adapter and the seed it was trained from, and is used with no other.
 */

const metadataSchema = z.object({
  round: z.string(),
  /** SHA-256 of the `global.safetensors` of the round before. */
  adapter: z.string(),
  seed: z.string(),
  client_id: z.string(),
  worker_id: z.string(),
  /** The worker's `fitted` message, as JSON. */
  fit: z.string(),
  /** Of `fit` and the tensors, in the order of their names. */
  crc32: z.string(),
});
type Metadata = z.output<typeof metadataSchema>;

/** What an update was trained from. */
export interface FitOrigin {
  readonly round: number;
  /** SHA-256 of the round before's `global.safetensors`. */
  readonly adapter: string;
  readonly seed: string;
}

/** An update that is on disk. */
export interface StoredFit {
  /** Values [from, to) of one of its tensors, decoded. */
  read(tensor: "rows" | "dense", from: number, to: number): Promise<Float32Array>;
  /** Removes the file: the update does not count. */
  drop(): void;
}

export interface FoundFit {
  readonly reply: Reply<"fit">;
  readonly stored: StoredFit;
}

/** The round and client of an update, read from the file's header; undefined if the file is something else or incomplete. */
export function readOwner(file: string): { readonly round: string; readonly clientId: string } | undefined {
  try {
    const { data } = metadataSchema.safeParse(readHeader(file).metadata);
    return data && { round: data.round, clientId: data.client_id };
  } catch (cause) {
    if (cause instanceof RefusedError) return undefined;
    throw cause;
  }
}

/** Reads an update. Throws a RefusedError if it is missing, damaged, or was trained from something else. */
export async function readFit(file: string, { round, adapter, seed }: FitOrigin): Promise<FoundFit> {
  const content = await readIfThere(file);
  if (!content) throw new RefusedError(file, "a recorded fit", "no such file");
  const { tensors, metadata: found } = decodeHeader(content, content.length, file);
  const { data: metadata } = metadataSchema.safeParse(found);
  const message = answerIn(metadata?.fit ?? "");
  if (!metadata || !message || metadata.round !== `${round}`) throw new RefusedError(file, `a fit of round ${round}`, "another");
  for (const [key, expected] of [["adapter", adapter] as const, ["seed", seed] as const]) {
    if (metadata[key] !== expected) throw new RefusedError(file, `a fit trained from ${key} ${expected}`, metadata[key]);
  }
  const raw = new Map([...tensors].map(([name, { from, to }]) => [name, content.subarray(from, to)]));
  if (checksum(metadata.fit, raw) !== Number(metadata.crc32)) throw new RefusedError(file, "its checksum", "another");
  const payload = payloadOf(file, message, raw);
  const reply = { workerId: metadata.worker_id, attempt: message.attempt, message, payload, close: () => {} };
  return { reply, stored: storedFit(file, message) };
}

/** The answer in an update file. An earlier version may have written it, with an earlier protocol and fewer figures. */
function answerIn(fit: string): WorkerMessageOf<"fitted"> | undefined {
  const written = parseJson(fit);
  if (typeof written !== "object" || written === null) return undefined;
  const { data } = workerMessage.safeParse({ grad_norm: null, ...written, protocol_version: PROTOCOL_VERSION });
  return data?.type === "fitted" ? data : undefined;
}

function payloadOf(file: string, { tensors }: WorkerMessageOf<"fitted">, raw: ReadonlyMap<string, Uint8Array>): Payload {
  const found = tensors.flatMap(({ name, dtype, shape }) => {
    const bytes = raw.get(name);
    const length = lengthOf({ shape });
    const expected = encodedBytes(dtype, length);
    if (bytes && bytes.length !== expected) throw new RefusedError(`tensor ${name} of ${file}`, `${expected} bytes`, `${bytes.length}`);
    return bytes ? [[name, { dtype, length, bytes }]] : [];
  });
  return Object.fromEntries(found);
}

/** Writes an update completely before this resolves, reusing the disk space of a file with that name. */
export async function writeFit(
  file: string,
  clientId: string,
  { round, adapter, seed }: FitOrigin,
  { workerId, message, payload }: Reply<"fit">,
): Promise<StoredFit> {
  const fit = JSON.stringify(message);
  const raw = new Map<string, Uint8Array>();
  const described = message.tensors.map(({ name, dtype, shape }) => {
    const { bytes } = payload[name] as Encoded;
    raw.set(name, bytes);
    // A dtype that safetensors does not know is stored as bytes.
    return [name, dtype === "I8X256" ? { dtype: "U8", shape: [bytes.length], bytes } : { dtype, shape, bytes }] as const;
  });
  const crc = `${checksum(fit, raw)}`;
  const metadata: Metadata = { round: `${round}`, adapter, seed, client_id: clientId, worker_id: workerId, fit, crc32: crc };
  await writeOver(file, encodeRaw(new Map(described), metadata));
  return storedFit(file, message);
}

function storedFit(file: string, { tensors }: WorkerMessageOf<"fitted">): StoredFit {
  let header: SafetensorsHeader | undefined;
  return {
    async read(tensor, from, to) {
      const known = tensors.find(({ name }) => name === tensor);
      if (!known) return new Float32Array(0);
      header ??= readHeader(file);
      const span = header.tensors.get(tensor);
      if (!span) throw new RefusedError(file, `tensor ${tensor}`, "none");
      const { dtype } = known;
      const [first, last] = wholeGroups({ dtype, length: lengthOf(known) }, from, to);
      const [start, end] = [encodedBytes(dtype, first), encodedBytes(dtype, last)];
      const bytes = withFile(file, (fd) => readAt(fd, span.from + start, end - start));
      return decode({ dtype, length: last - first, bytes }).subarray(from - first, to - first);
    },
    drop: () => removeFit(file),
  };
}

/** Best effort: a file that cannot be removed is overwritten later, or refused when it is read. */
export function removeFit(file: string): void {
  try {
    rmSync(file, { force: true });
  } catch {}
}

function lengthOf({ shape }: Pick<TensorDescriptor, "shape">): number {
  return shape.reduce((product, side) => product * side, 1);
}

function checksum(fit: string, tensors: ReadonlyMap<string, Uint8Array>): number {
  const inOrder = [...tensors].toSorted(([a], [b]) => (a < b ? -1 : 1));
  return inOrder.reduce((crc, [, bytes]) => checksumOf(bytes, crc), crc32(fit));
}

/** zlib counts the bytes of one call in 32 bits. */
function checksumOf(bytes: Uint8Array, begin: number): number {
  let crc = begin;
  for (let from = 0; from < bytes.length; from += LARGEST_PIECE) crc = crc32(bytes.subarray(from, from + LARGEST_PIECE), crc);
  return crc;
}

function readHeader(file: string): SafetensorsHeader {
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

function withFile<T>(file: string, use: (fd: number) => T): T {
  const fd = openSync(file, READ);
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}

function readAt(fd: number, from: number, length: number): Uint8Array {
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
