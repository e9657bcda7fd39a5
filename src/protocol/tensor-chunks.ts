import { crc32 } from "node:zlib";
import type { Adapter } from "../adapter/adapter.ts";
import { type EncodedAdapter, encodingOf } from "../adapter/encoded-adapter.ts";
import { RefusedError } from "../errors.ts";
import { type Dtype, type Encoded, encodedBytes, type WireDtype } from "../tensor/encoded.ts";
import { CHUNK_BYTES } from "./limits.ts";
import type { ExamplesDescriptor, KeptDescriptor, TableDescriptor, TensorDescriptor } from "./fields.ts";

/** What travels as tensors. */
type Announced = TensorDescriptor | TableDescriptor | ExamplesDescriptor | KeptDescriptor;

/** The content of a `chunk` message without its envelope. */
export interface Chunk {
  readonly tensor: Announced["name"];
  readonly offset: number;
  readonly data: Uint8Array;
}

/** Shapes that received tensors must have, by name; "any" accepts the announced shape, up to 4 GiB a tensor. */
export type ExpectedShapes = Readonly<Partial<Record<Announced["name"], readonly number[]>>> | "any";

/** Assembles tensors from their chunks, or from shared memory. Every method throws a RefusedError for invalid input. */
export interface Assembler<D extends WireDtype> {
  /** Whether the tensors are in memory that the sender shares, so that no chunks follow. */
  readonly isShared: boolean;
  write(chunk: Chunk): void;
  /** Reads all tensors at once: `borrow` fills the memory that it is given. */
  copy(borrow: Borrow): Promise<void>;
  /** Returns the tensors; all bytes must have arrived and the checksums must match. */
  finish(): Partial<Record<Announced["name"], Encoded<D>>>;
}

/** Fills memory from the locations that the sender gave for all tensors of one message. */
export type Borrow = (tensors: readonly Borrowed[]) => Promise<void>;

export interface Borrowed {
  readonly from: NonNullable<TensorDescriptor["shared"]>;
  readonly into: Uint8Array;
}

export interface AssemblerOptions<D extends WireDtype> {
  /** The dtypes that tensors may have, F32 by default. */
  readonly dtypes?: readonly D[] | undefined;
  /** Returns memory with any content; whoever gets the tensors owns it. */
  readonly allocate?: (bytes: number) => Uint8Array;
}

const MAX_TENSOR_BYTES = 4 * 1024 ** 3;
/** One prefix goes to many clients: its checksums are computed once. An adapter's values never change after it was sent. */
const descriptions = new WeakMap<EncodedAdapter, readonly TensorDescriptor[]>();

/**
 * The tensors of a task on the wire: an adapter as `rows` [r, width] and, unless empty, `dense` [size] and `merged` [n, width], and
 * the state of a client's optimizer, if there is one, as `state` [size].
 */
export function describeTensors(adapter: Adapter, state?: Uint8Array): readonly TensorDescriptor[] {
  const encoding = encodingOf(adapter);
  const described = descriptions.get(encoding) ?? tensorsOf(encoding).map(inChunks);
  descriptions.set(encoding, described);
  return [...described, ...stateTensor(state).map(inChunks)];
}

function inChunks([tensor, bytes]: Named): TensorDescriptor {
  return { ...tensor, crc32: crc32(bytes), shared: null };
}

/** Lends the same tensors to another process until `release`. Resolves with undefined if there is no room for them. */
export async function lendTensors(adapter: Adapter, lend: Lend, state?: Uint8Array): Promise<LentTensors | undefined> {
  const lent = await Promise.all(
    [...tensorsOf(encodingOf(adapter)), ...stateTensor(state)].map(async ([tensor, bytes]) => {
      const { pid = null, fd = -1, offset = 0, release } = (await lend(bytes)) ?? {};
      return { descriptor: { ...tensor, crc32: null, shared: { pid, fd, offset } }, release };
    }),
  );
  const release = () => {
    for (const part of lent) part.release?.();
  };
  if (lent.every((part) => part.release)) return { descriptors: lent.map(({ descriptor }) => descriptor), release };
  release();
  return undefined;
}

/** Bytes that another process of this machine may read. */
export interface Lent {
  /** The process whose memory it is; null: this one. */
  readonly pid: number | null;
  /** A descriptor of that process. */
  readonly fd: number;
  /** Their offset in that file. */
  readonly offset: number;
  /** Call it once the other process has read them, or never will. Safe to call twice. */
  release(): void;
}

/** Resolves with undefined if there is no room for the bytes. */
export type Lend = (bytes: Uint8Array) => Promise<Lent | undefined>;

export interface LentTensors extends Pick<Lent, "release"> {
  readonly descriptors: readonly TensorDescriptor[];
}

/** The same tensors in chunks of at most `chunkBytes`, in order: views of their memory. */
export function* splitTensors(
  adapter: Adapter,
  { state, chunkBytes = CHUNK_BYTES }: { readonly state?: Uint8Array | undefined; readonly chunkBytes?: number } = {},
): Generator<Chunk> {
  for (const [{ name: tensor }, bytes] of [...tensorsOf(encodingOf(adapter)), ...stateTensor(state)]) {
    for (let offset = 0; offset < bytes.length; offset += chunkBytes) {
      yield { tensor, offset, data: bytes.subarray(offset, offset + chunkBytes) };
    }
  }
}

/**
 * Prepares to receive the tensors that a header announces. Shapes and dtype are compared before memory is allocated, and
 * exactly: a shape that would broadcast is wrong, too.
 */
export function createAssembler<D extends WireDtype = Dtype>(
  descriptors: readonly Announced[],
  expected: ExpectedShapes,
  { dtypes, allocate = (bytes) => new Uint8Array(bytes) }: AssemblerOptions<D> = {},
): Assembler<D> {
  checkAnnounced(descriptors, expected, dtypes ?? ["F32"]);
  const parts = descriptors.map((descriptor): Arriving => ({ descriptor, memory: undefined, written: 0, checksum: 0 }));
  const memoryOf = (part: Arriving) => (part.memory ??= allocate(part.descriptor.bytes));
  const unfinished = () => parts.find(({ descriptor, written }) => written < descriptor.bytes);

  return {
    isShared: descriptors.some(({ shared }) => shared !== null),
    write({ tensor, offset, data }) {
      const part = unfinished();
      if (!part) throw new RefusedError(`a chunk of ${tensor}`, "the end, since all bytes have arrived", `${data.length} more bytes`);
      const { descriptor, written } = part;
      if (tensor !== descriptor.name || offset !== written) {
        throw new RefusedError("a chunk", `${descriptor.name} at byte ${written}`, `${tensor} at byte ${offset}`);
      }
      const room = Math.min(descriptor.bytes - written, CHUNK_BYTES);
      if (data.length === 0 || data.length > room) {
        throw new RefusedError(`a chunk of ${tensor} at byte ${offset}`, `1 to ${room} bytes`, `${data.length}`);
      }
      memoryOf(part).set(data, offset);
      part.written += data.length;
      part.checksum = crc32(data, part.checksum);
    },
    async copy(borrow) {
      await borrow(parts.flatMap((part) => (part.descriptor.shared ? [{ from: part.descriptor.shared, into: memoryOf(part) }] : [])));
      for (const part of parts) part.written = part.descriptor.bytes;
    },
    finish() {
      const short = unfinished();
      if (short) throw new RefusedError(`tensor ${short.descriptor.name}`, `${short.descriptor.bytes} bytes`, `${short.written}`);
      for (const { descriptor, checksum } of parts) {
        if (descriptor.crc32 !== null && checksum !== descriptor.crc32)
          throw new RefusedError(`tensor ${descriptor.name}`, `crc32 ${descriptor.crc32}`, `${checksum}`);
      }
      return Object.fromEntries(
        parts.map((part) => {
          const { name, dtype, shape } = part.descriptor;
          return [name, { dtype: dtype as D, length: sizeOf(shape), bytes: memoryOf(part) }];
        }),
      );
    },
  };
}

/** A tensor on its way. */
interface Arriving {
  readonly descriptor: Announced;
  /** Allocated when the first bytes arrive. */
  memory: Uint8Array | undefined;
  written: number;
  checksum: number;
}

type Named = readonly [Pick<TensorDescriptor, "name" | "dtype" | "shape" | "bytes">, Uint8Array];

function tensorsOf({ r, rows, dense, merged }: EncodedAdapter): Named[] {
  if (rows.length % r !== 0) throw new RefusedError("the rows of a payload", `${r} rows of one width`, `${rows.length} values`);
  const width = rows.length / r;
  const named = (name: TensorDescriptor["name"], shape: number[], { dtype, bytes }: Encoded): Named => {
    return [{ name, dtype, shape, bytes: bytes.length }, bytes];
  };
  const tensors = [named("rows", [r, width], rows)];
  if (dense.length > 0) tensors.push(named("dense", [dense.length], dense));
  if (merged.length > 0) tensors.push(named("merged", [merged.length / width, width], merged));
  return tensors;
}

function stateTensor(bytes: Uint8Array | undefined): readonly Named[] {
  if (!bytes) return [];
  return [[{ name: "state", dtype: "F32", shape: [bytes.length / Float32Array.BYTES_PER_ELEMENT], bytes: bytes.length }, bytes]];
}

function checkAnnounced(descriptors: readonly Announced[], expected: ExpectedShapes, dtypes: readonly WireDtype[]): void {
  const names = descriptors.map(({ name }) => name);
  const isRepeated = new Set(names).size < names.length;
  const wanted = expected === "any" ? [...new Set(names)] : Object.keys(expected);
  if (isRepeated || wanted.toSorted().join() !== names.toSorted().join()) {
    throw new RefusedError("the tensors of a reply", wanted.join(" and ") || "none", names.join(" and ") || "none");
  }
  if (new Set(descriptors.map(({ shared }) => shared !== null)).size > 1)
    throw new RefusedError("the tensors of a reply", "all in shared memory, or none", "some");
  for (const { name, dtype, shape, bytes } of descriptors) {
    // The state of an optimizer is never rounded.
    const allowed: readonly WireDtype[] = name === "state" ? ["F32"] : dtypes;
    if (!allowed.includes(dtype)) throw new RefusedError(`tensor ${name}`, `dtype ${allowed.join(" or ")}`, dtype);
    const wantedShape = expected === "any" ? shape : (expected[name] ?? []);
    if (shape.join() !== wantedShape.join())
      throw new RefusedError(`tensor ${name}`, `shape [${wantedShape.join(", ")}]`, `[${shape.join(", ")}]`);
    const size = encodedBytes(dtype, sizeOf(shape));
    if (size !== bytes) throw new RefusedError(`tensor ${name} of shape [${shape.join(", ")}]`, `${size} bytes of ${dtype}`, `${bytes}`);
    if (expected === "any" && bytes > MAX_TENSOR_BYTES)
      throw new RefusedError(`tensor ${name}`, `at most ${MAX_TENSOR_BYTES} bytes`, `${bytes}`);
  }
}

function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, side) => product * side, 1);
}
