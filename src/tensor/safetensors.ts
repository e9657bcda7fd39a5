import { z } from "zod";
import { RefusedError } from "../errors.ts";
import { parseJson } from "../base/json.ts";

/*
 * The safetensors format (github.com/huggingface/safetensors): 8 bytes of header length, little-endian; a JSON
 * header that gives every tensor's dtype, shape and offsets; the values, without gaps.
 */

export interface FloatTensor {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

export interface SafetensorsFile {
  readonly tensors: ReadonlyMap<string, FloatTensor>;
  readonly metadata: Readonly<Record<string, string>>;
}

/** A tensor's bytes in a file; `dtype` in safetensors' spelling. */
export interface RawTensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** The same, its bytes made as they are asked for. */
export interface StreamedTensor extends Omit<RawTensor, "bytes"> {
  pieces(): Iterable<Uint8Array>;
}

/** The range of a tensor's bytes, from the beginning of the file. */
export interface TensorPlace {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly from: number;
  readonly to: number;
}

export interface SafetensorsHeader {
  /** In the order of their offsets. */
  readonly tensors: ReadonlyMap<string, TensorPlace>;
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * A file as its consecutive parts: the same bytes for the same content, for any order of the tensors. Values are views of
 * the tensors' memory.
 */
export function encodeSafetensors(
  tensors: ReadonlyMap<string, FloatTensor>,
  metadata: Readonly<Record<string, string>>,
): readonly Uint8Array[] {
  const raw = new Map<string, RawTensor>();
  for (const [name, { shape, values }] of tensors)
    raw.set(name, { dtype: "F32", shape, bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) });
  return [...encodeRaw(raw, metadata)];
}

/** The same for tensors of any dtype that safetensors knows. Throws a RefusedError at a tensor whose bytes are not those of its shape. */
export function* encodeRaw(
  tensors: ReadonlyMap<string, RawTensor | StreamedTensor>,
  metadata: Readonly<Record<string, string>>,
): Generator<Uint8Array> {
  const entries = [...tensors].toSorted(([one], [other]) => (one < other ? -1 : 1));
  let end = 0;
  const described = entries.map(([name, { dtype, shape }]) => {
    const begin = end;
    end += bytesOf(`tensor ${name}`, dtype, shape);
    return [name, { dtype, shape, data_offsets: [begin, end] }] as const;
  });
  const header = encodeHeader({ __metadata__: sortKeys(metadata), ...Object.fromEntries(described) });
  const length = new Uint8Array(LENGTH_BYTES);
  new DataView(length.buffer).setBigUint64(0, BigInt(header.length), true);
  yield length;
  yield header;
  for (const [name, tensor] of entries) {
    const { dtype, shape } = tensor;
    let written = 0;
    for (const piece of "pieces" in tensor ? tensor.pieces() : [tensor.bytes]) {
      written += piece.length;
      yield piece;
    }
    const expected = bytesOf(`tensor ${name}`, dtype, shape);
    if (expected !== written)
      throw new RefusedError(`tensor ${name} of dtype ${dtype} and shape [${shape.join(", ")}]`, `${expected} bytes`, `${written}`);
  }
}

/** Tensors are views of `bytes` if aligned for float32, else copies. `subject` names the file in errors. */
export function decodeSafetensors(bytes: Uint8Array, subject = "a safetensors file"): SafetensorsFile {
  const { tensors, metadata } = decodeHeader(bytes, bytes.length, subject);
  const floats = new Map<string, FloatTensor>();
  for (const [name, { dtype, shape, from, to }] of tensors) {
    if (dtype !== "F32") throw new RefusedError(`tensor ${name} of ${subject}`, "dtype F32", dtype);
    floats.set(name, { shape, values: floatsAt(bytes, from, to - from) });
  }
  return { tensors: floats, metadata };
}

/** The tensors of a file of `fileBytes` bytes and their offsets, from its beginning. Refuses gaps, overlaps and a wrong length. */
export function decodeHeader(beginning: Uint8Array, fileBytes: number, subject: string): SafetensorsHeader {
  const { header, dataStart } = parseHeader(beginning, fileBytes, subject);
  const { __metadata__: metadata = {}, ...described } = header;
  const inOrder = Object.entries(described).toSorted(([, a], [, b]) => compareOffsets(a.data_offsets, b.data_offsets));
  const tensors = new Map<string, TensorPlace>();
  let expected = 0;
  for (const [name, tensor] of inOrder) {
    const { dtype, shape } = tensor;
    const [begin, end] = tensor.data_offsets;
    const next = expected + bytesOf(`tensor ${name} of ${subject}`, dtype, shape);
    // It must begin where the previous one ends and have the size of its shape: no gap, no overlap.
    if (begin !== expected || end !== next) {
      const range = `bytes ${expected} to ${next} for shape [${shape.join(", ")}]`;
      throw new RefusedError(`tensor ${name} of ${subject}`, range, `${begin} to ${end}`);
    }
    tensors.set(name, { dtype, shape, from: dataStart + begin, to: dataStart + end });
    expected = end;
  }
  const available = fileBytes - dataStart;
  if (expected !== available) throw new RefusedError(`the data of ${subject}`, `${expected} bytes`, `${available}`);
  return { tensors, metadata };
}

const LENGTH_BYTES = 8;
/** The limit of the reference implementation. */
const MAX_HEADER_BYTES = 100_000_000;

const size = z.number().int().nonnegative();
const headerSchema = z
  .object({ __metadata__: z.record(z.string(), z.string()).optional() })
  .catchall(z.strictObject({ dtype: z.string(), shape: z.array(size), data_offsets: z.tuple([size, size]) }));

/** Padded with spaces so that the values begin at a multiple of 8 bytes. */
function encodeHeader(header: unknown): Uint8Array {
  const text = new TextEncoder().encode(JSON.stringify(header));
  const padded = new Uint8Array(Math.ceil(text.length / 8) * 8).fill(0x20);
  padded.set(text);
  return padded;
}

function parseHeader(bytes: Uint8Array, fileBytes: number, subject: string): { header: z.infer<typeof headerSchema>; dataStart: number } {
  if (bytes.length < LENGTH_BYTES) throw new RefusedError(subject, `at least ${LENGTH_BYTES} bytes`, `${bytes.length}`);
  const length = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  const largest = Math.min(fileBytes, bytes.length, MAX_HEADER_BYTES) - LENGTH_BYTES;
  if (length > largest) throw new RefusedError(`the header of ${subject}`, `at most ${largest} bytes`, `${length}`);
  const dataStart = LENGTH_BYTES + Number(length);
  const result = headerSchema.safeParse(parseJson(new TextDecoder().decode(bytes.subarray(LENGTH_BYTES, dataStart))));
  if (!result.success)
    throw new RefusedError(`the header of ${subject}`, "JSON that describes tensors", `another value ${placeOf(result.error)}`);
  return { header: result.data, dataStart };
}

function placeOf({ issues: [first] }: z.ZodError): string {
  return first && first.path.length > 0 ? `at ${first.path.join(".")}` : "";
}

function floatsAt(bytes: Uint8Array, offset: number, byteLength: number): Float32Array {
  const start = bytes.byteOffset + offset;
  const length = byteLength / Float32Array.BYTES_PER_ELEMENT;
  if (start % Float32Array.BYTES_PER_ELEMENT === 0) return new Float32Array(bytes.buffer, start, length);
  const copy = new Float32Array(length);
  new Uint8Array(copy.buffer).set(bytes.subarray(offset, offset + byteLength));
  return copy;
}

/** By begin; an empty tensor precedes one that begins at the same offset. */
function compareOffsets([oneBegin, oneEnd]: readonly [number, number], [otherBegin, otherEnd]: readonly [number, number]): number {
  return oneBegin - otherBegin || oneEnd - otherEnd;
}

const BYTES_PER_VALUE: Readonly<Record<string, number>> = { F32: 4, BF16: 2, F16: 2, U8: 1 };

function bytesOf(subject: string, dtype: string, shape: readonly number[]): number {
  const each = BYTES_PER_VALUE[dtype];
  if (each === undefined) throw new RefusedError(subject, `dtype ${Object.keys(BYTES_PER_VALUE).join(", ")}`, dtype);
  return shape.reduce((product, side) => product * side, each);
}

function sortKeys(metadata: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(metadata).toSorted(([one], [other]) => (one < other ? -1 : 1)));
}
