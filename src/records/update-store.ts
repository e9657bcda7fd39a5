import { createHash } from "node:crypto";
import { closeSync, constants, fstatSync, ftruncateSync, openSync, readdirSync, readSync, rmSync, writevSync } from "node:fs";
import { mkdir, open, rename, rm } from "node:fs/promises";
import path from "node:path";
import { crc32 } from "node:zlib";
import PQueue from "p-queue";
import { RefusedError } from "../errors.ts";
import type { TensorDescriptor } from "../protocol/fields.ts";
import { PROTOCOL_VERSION } from "../protocol/limits.ts";
import { workerMessage, type WorkerMessageOf } from "../protocol/messages.ts";
import { decode, type Encoded, encodedBytes, GROUP } from "../tensor/encoded.ts";
import { parseJson } from "../base/json.ts";
import { decodeHeader, encodeRaw, type SafetensorsHeader } from "../tensor/safetensors.ts";
import type { Payload, Reply } from "../workers/task.ts";
import { writingError } from "./durable-file.ts";
import { isThere, readIfThere, readingError } from "../base/read-file.ts";

/*
 * Clients' fits on disk, as they came: what a round that was broken off had finished need not be trained again, a rule that needs
 * all updates at once reads them back, and a run with `recordUpdates` can be verified. Files are safetensors with the
 * worker's answer in their metadata: `<round>/<client>.safetensors` where they are recorded, else `<k>.safetensors`, which
 * the next round writes over. Each names the adapter and the seed that it was trained from, and counts for no other.
 */

export interface Spool {
  /** Starts a round that trains from the adapter with this SHA-256. What an earlier life of the run left of it can be found. */
  open(round: number, adapter: string): Promise<RoundSpool>;
  /** Removes what is not recorded. */
  clear(): Promise<void>;
}

export interface RoundSpool {
  /**
   * Has a client's fit that was left taken, one at a time, and gives it; undefined where none is, or not all of it. What is refused
   * is removed, and counts as not there.
   */
  restore(client: SeededClient, take: (left: FoundFit) => Promise<unknown>): Promise<Reply<"fit"> | undefined>;
  /** Writes a fit, all of it before this resolves; undefined where there is no room for it, or it is not worth it. */
  keep(client: SeededClient, reply: Reply<"fit">): Promise<StoredFit | undefined>;
}

/** A client and the seed of its fit. */
export interface SeededClient {
  readonly id: string;
  readonly seed: string;
}

/** What a fit was trained from. */
export interface FitOrigin {
  readonly round: number;
  /** SHA-256 of the round before's `global.safetensors`. */
  readonly adapter: string;
  readonly seed: string;
}

/** A fit that is on disk. */
export interface StoredFit {
  /** Values [from, to) of a tensor of its update, decoded. */
  read(tensor: "rows" | "dense", from: number, to: number): Promise<Float32Array>;
  /** It does not count. */
  drop(): void;
}

export interface FoundFit {
  readonly reply: Reply<"fit">;
  readonly stored: StoredFit;
}

export interface SpoolOptions {
  readonly folder: string;
  readonly isRecorded: boolean;
  /** The aggregation reads them back: each is kept, whatever it is worth. */
  readonly isRead: boolean;
  /** Of a round's updates, on disk; further ones are not kept, unless they are recorded. */
  readonly maxBytes: number;
}

export function createSpool({ folder, isRecorded, isRead, maxBytes }: SpoolOptions): Spool {
  return {
    async open(round, adapter) {
      const left = findLeft(folder, round);
      const target = isRecorded ? path.join(folder, `${round}`) : folder;
      await mkdir(target, { recursive: true }).catch((cause: unknown) => {
        throw writingError(target, cause);
      });
      const occupied = new Set(left.values());
      const turns = new PQueue({ concurrency: 1 });
      let [used, slot] = [0, 0];

      /** One that an earlier round wrote, where there is one: its memory is there already. */
      const nextSlot = (): string => {
        for (;;) {
          const file = path.join(target, `${slot++}${SUFFIX}`);
          if (!occupied.has(file)) return file;
        }
      };
      return {
        async restore({ id, seed }, take) {
          const found = left.get(id);
          if (found === undefined) return undefined;
          return turns.add(async () => {
            // It may have been left by a life that did not record.
            const file = isRecorded ? path.join(target, fileName(id)) : found;
            if (file !== found) await rename(found, file);
            try {
              const fit = await readFit(file, { round, adapter, seed });
              await take(fit);
              return fit.reply;
            } catch (error) {
              if (!(error instanceof RefusedError)) throw error;
              remove(file);
              return undefined;
            }
          });
        },
        async keep({ id, seed }, reply) {
          const bytes = reply.message.tensors.reduce((sum, tensor) => sum + tensor.bytes, 0);
          const isCheap = !isRead && reply.message.seconds < bytes / DISK_BYTES_PER_SECOND;
          if (!isRecorded && (isCheap || used + bytes > maxBytes)) return undefined;
          used += bytes;
          const parts = encodeFit(id, { round, adapter, seed }, reply);
          const file = isRecorded ? path.join(target, fileName(id)) : nextSlot();
          try {
            await writeOver(file, parts);
          } catch (cause) {
            remove(file);
            if (isRecorded) throw writingError(file, cause);
            return undefined;
          }
          return stored(file, reply.message);
        },
      };
    },
    async clear() {
      const names = isRecorded ? slotsIn(folder) : ["."];
      await Promise.all(names.map((name) => rm(path.join(folder, name), { recursive: true, force: true })));
    },
  };
}

/** The recorded fit of a client. Throws a RefusedError where it is not whole, or was trained from something else. */
export async function readRecordedFit(folder: string, clientId: string, origin: FitOrigin): Promise<FoundFit> {
  return readFit(path.join(folder, `${origin.round}`, fileName(clientId)), origin);
}

/** Whether the updates of a round were recorded. */
export function hasRecorded(folder: string, round: number): boolean {
  return isThere(path.join(folder, `${round}`));
}

const SUFFIX = ".safetensors";
/** Bytes of a file's name, on the file systems of Linux and macOS. */
const LONGEST_NAME = 255;
/** Written at once: to have another thread do it would cost more. */
const FEW_BYTES = 65536;
/** A slow disk's. What trains in less time than it takes to write is trained again rather than kept. */
const DISK_BYTES_PER_SECOND = 100e6;
/** Of ours, that is. */
const LARGEST_HEADER = 65536;
const WRITE_OVER = constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK;
/** A pipe in the place of a file is not waited for. */
const READ = constants.O_RDONLY | constants.O_NONBLOCK;
/** One call moves less than 2 GiB. */
const MOST_AT_ONCE = 2 ** 30;

/** A client's id may hold anything, even half a surrogate pair, and be longer than a file's name. */
function fileName(clientId: string): string {
  const name = encodeURIComponent(clientId.replaceAll(/\p{Surrogate}/gu, "\ufffd")).replaceAll(".", "%2E");
  if (name.length + SUFFIX.length <= LONGEST_NAME) return `${name}${SUFFIX}`;
  // No id is encoded so: after a % there are hexadecimal digits.
  return `%sha256-${createHash("sha256").update(clientId).digest("hex")}${SUFFIX}`;
}

function slotsIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder).filter((name) => name.endsWith(SUFFIX));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw readingError(folder, cause);
  }
}

/** Files that hold fits of a round, by client. */
function findLeft(folder: string, round: number): ReadonlyMap<string, string> {
  const left = new Map<string, string>();
  for (const place of [folder, path.join(folder, `${round}`)]) {
    for (const name of slotsIn(place)) {
      const file = path.join(place, name);
      try {
        const { metadata } = readHeader(file);
        if (metadata["round"] === `${round}` && metadata["client_id"] !== undefined) left.set(metadata["client_id"], file);
      } catch (cause) {
        // What is half written is written over.
        if (!(cause instanceof RefusedError)) throw readingError(file, cause);
      }
    }
  }
  return left;
}

function readHeader(file: string): SafetensorsHeader {
  return withFile(file, (fd) => {
    const { size } = fstatSync(fd);
    const beginning = readAt(fd, 0, Math.min(size, LARGEST_HEADER));
    return decodeHeader(beginning, size, file);
  });
}

async function readFit(file: string, { round, adapter, seed }: FitOrigin): Promise<FoundFit> {
  const content = await readIfThere(file);
  if (!content) throw new RefusedError(file, "a recorded fit", "no such file");
  const { tensors, metadata } = decodeHeader(content, content.length, file);
  // The checksum below vouches for it; its fields decide whether this version can read it, not the version that wrote it.
  const recorded = { ...(parseJson(metadata["fit"] ?? "") as object), protocol_version: PROTOCOL_VERSION };
  const { data: message } = workerMessage.safeParse(recorded);
  if (message?.type !== "fitted" || metadata["round"] !== `${round}`) throw new RefusedError(file, `a fit of round ${round}`, "another");
  for (const [name, expected] of Object.entries({ adapter, seed })) {
    const found = metadata[name];
    if (found !== expected) throw new RefusedError(file, `a fit trained from ${name} ${expected}`, found ?? "none");
  }
  const raw = new Map([...tensors].map(([name, { from, to }]) => [name, content.subarray(from, to)]));
  if (checksum(metadata["fit"] ?? "", raw) !== Number(metadata["crc32"])) throw new RefusedError(file, "its checksum", "another");
  const payload: Payload = Object.fromEntries(
    message.tensors.flatMap(({ name, dtype, shape }) => {
      const bytes = raw.get(name);
      const expected = encodedBytes(dtype, lengthOf({ shape }));
      if (bytes && bytes.length !== expected) throw new RefusedError(`tensor ${name} of ${file}`, `${expected} bytes`, `${bytes.length}`);
      return bytes ? [[name, { dtype, length: lengthOf({ shape }), bytes }]] : [];
    }),
  );
  const reply = { workerId: metadata["worker_id"] ?? "", attempt: message.attempt, message, payload, close: () => {} };
  return { reply, stored: stored(file, message) };
}

function encodeFit(
  clientId: string,
  { round, adapter, seed }: FitOrigin,
  { workerId, message, payload }: Reply<"fit">,
): readonly Uint8Array[] {
  const fit = JSON.stringify(message);
  const raw = new Map<string, Uint8Array>();
  const described = message.tensors.map(({ name, dtype, shape }) => {
    const { bytes } = payload[name] as Encoded;
    raw.set(name, bytes);
    // What safetensors has no name for are bytes.
    return [name, dtype === "I8X256" ? { dtype: "U8", shape: [bytes.length], bytes } : { dtype, shape, bytes }] as const;
  });
  const crc = `${checksum(fit, raw)}`;
  const origin = { round: `${round}`, adapter, seed };
  return encodeRaw(new Map(described), { ...origin, client_id: clientId, worker_id: workerId, fit, crc32: crc });
}

function checksum(fit: string, tensors: ReadonlyMap<string, Uint8Array>): number {
  const inOrder = [...tensors].toSorted(([one], [other]) => (one < other ? -1 : 1));
  return inOrder.reduce((crc, [, bytes]) => checksumOf(bytes, crc), crc32(fit));
}

/** zlib counts the bytes of one call in 32 bits. */
function checksumOf(bytes: Uint8Array, begin: number): number {
  let crc = begin;
  for (let from = 0; from < bytes.length; from += MOST_AT_ONCE) crc = crc32(bytes.subarray(from, from + MOST_AT_ONCE), crc);
  return crc;
}

function stored(file: string, { tensors }: WorkerMessageOf<"fitted">): StoredFit {
  let header: SafetensorsHeader | undefined;
  return {
    async read(tensor, from, to) {
      const known = tensors.find(({ name }) => name === tensor);
      if (!known) return new Float32Array(0);
      header ??= readHeader(file);
      const place = header.tensors.get(tensor);
      if (!place) throw new RefusedError(file, `tensor ${tensor}`, "none");
      const { dtype } = known;
      // Groups of values are decoded whole.
      const first = dtype === "I8X256" ? from - (from % GROUP) : from;
      const last = dtype === "I8X256" ? Math.min(lengthOf(known), Math.ceil(to / GROUP) * GROUP) : to;
      const [start, end] = [encodedBytes(dtype, first), encodedBytes(dtype, last)];
      const bytes = withFile(file, (fd) => readAt(fd, place.from + start, end - start));
      return decode({ dtype, length: last - first, bytes }).subarray(from - first, to - first);
    },
    drop: () => remove(file),
  };
}

function lengthOf({ shape }: Pick<TensorDescriptor, "shape">): number {
  return shape.reduce((product, side) => product * side, 1);
}

/** Into the memory of a file that is there, if one is. */
async function writeOver(file: string, parts: readonly Uint8Array[]): Promise<void> {
  const total = bytesIn(parts);
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
        const { bytesWritten } = await handle.write(part, done, Math.min(part.length - done, MOST_AT_ONCE), at);
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
    const count = readSync(fd, bytes, done, Math.min(length - done, MOST_AT_ONCE), from + done);
    if (count === 0) throw new RefusedError("a recorded fit", `${from + length} bytes`, `${from + done}`);
    done += count;
  }
  return bytes;
}

/** What cannot be removed is not whole, or is written over. */
function remove(file: string): void {
  try {
    rmSync(file, { force: true });
  } catch {}
}

function bytesIn(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, { length }) => sum + length, 0);
}
