import { z } from "zod";
import { RefusedError } from "../errors.ts";
import type { TensorDescriptor } from "../protocol/fields.ts";
import { PROTOCOL_VERSION } from "../protocol/limits.ts";
import { workerMessage, type WorkerMessageOf } from "../protocol/messages.ts";
import { decode, type Encoded, encodedBytes, isIntegerDtype, wholeGroups } from "../tensor/encoded.ts";
import { parseJson } from "../base/json.ts";
import type { SafetensorsHeader } from "../tensor/safetensors.ts";
import type { Payload, Reply } from "../workers/task.ts";
import { readAt, readHeader, readTensors, removeQuietly, requireChecksum, withFile, writeChecked } from "./checked-file.ts";

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
  const { tensors, metadata: found } = await readTensors(file, "a recorded fit");
  const { data: metadata } = metadataSchema.safeParse(found);
  const message = answerIn(metadata?.fit ?? "");
  if (!metadata || !message || metadata.round !== `${round}`) throw new RefusedError(file, `a fit of round ${round}`, "another");
  for (const [key, expected] of [["adapter", adapter] as const, ["seed", seed] as const]) {
    if (metadata[key] !== expected) throw new RefusedError(file, `a fit trained from ${key} ${expected}`, metadata[key]);
  }
  requireChecksum(file, { answer: metadata.fit, tensors }, metadata.crc32);
  const payload = payloadOf(file, message, tensors);
  const reply = { workerId: metadata.worker_id, attempt: message.attempt, message, payload, close: () => {} };
  return { reply, stored: storedFit(file, message) };
}

/** The answer in an update file. An earlier version may have written it, with an earlier protocol and fewer figures. */
function answerIn(fit: string): WorkerMessageOf<"fitted"> | undefined {
  const written = parseJson(fit);
  if (typeof written !== "object" || written === null) return undefined;
  const { data } = workerMessage.safeParse({ grad_norm: null, norm: null, ...written, protocol_version: PROTOCOL_VERSION });
  return data?.type === "fitted" ? data : undefined;
}

function payloadOf(file: string, { tensors }: WorkerMessageOf<"fitted">, raw: ReadonlyMap<string, Uint8Array>): Payload {
  const found = tensors.flatMap(({ name, dtype, shape }) => {
    if (isIntegerDtype(dtype)) throw new RefusedError(`tensor ${name} of ${file}`, "the values of an update", dtype);
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
  const described = message.tensors.map(({ name, dtype, shape }) => {
    const { bytes } = payload[name] as Encoded;
    // A dtype that safetensors does not know is stored as bytes.
    return [name, dtype === "I8X256" ? { dtype: "U8", shape: [bytes.length], bytes } : { dtype, shape, bytes }] as const;
  });
  const metadata = { round: `${round}`, adapter, seed, client_id: clientId, worker_id: workerId, fit };
  await writeChecked(file, fit, new Map(described), metadata satisfies Omit<Metadata, "crc32">);
  return storedFit(file, message);
}

function storedFit(file: string, { tensors }: WorkerMessageOf<"fitted">): StoredFit {
  let header: SafetensorsHeader | undefined;
  return {
    async read(tensor, from, to) {
      const known = tensors.find(({ name }) => name === tensor);
      if (!known || isIntegerDtype(known.dtype)) return new Float32Array(0);
      header ??= readHeader(file);
      const span = header.tensors.get(tensor);
      if (!span) throw new RefusedError(file, `tensor ${tensor}`, "none");
      const { dtype } = known;
      const [first, last] = wholeGroups({ dtype, length: lengthOf(known) }, from, to);
      const [start, end] = [encodedBytes(dtype, first), encodedBytes(dtype, last)];
      const bytes = withFile(file, (fd) => readAt(fd, span.from + start, end - start));
      return decode({ dtype, length: last - first, bytes }).subarray(from - first, to - first);
    },
    drop: () => removeQuietly(file),
  };
}

function lengthOf({ shape }: Pick<TensorDescriptor, "shape">): number {
  return shape.reduce((product, side) => product * side, 1);
}
