import { z } from "zod";
import { RefusedError } from "../errors.ts";
import { parseJson } from "./json.ts";

/*
 * The safetensors format (github.com/huggingface/safetensors): 8 bytes of header length, little-endian; a JSON
 * header that names every tensor's dtype, shape and place; the values, without gaps. Here float32 only.
 */

export interface FloatTensor {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

export interface SafetensorsFile {
  readonly tensors: ReadonlyMap<string, FloatTensor>;
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * A file as the parts that follow one another in it: the same bytes for the same content, in whatever order the tensors
 * come. Values are views of the tensors' memory.
 */
export function encodeSafetensors(
  tensors: ReadonlyMap<string, FloatTensor>,
  metadata: Readonly<Record<string, string>>,
): readonly Uint8Array[] {
  const entries = [...tensors].toSorted(([one], [other]) => (one < other ? -1 : 1));
  let end = 0;
  const described = entries.map(([name, { shape, values }]) => {
    if (sizeOf(shape) !== values.length)
      throw new RefusedError(`tensor ${name} of shape [${shape.join(", ")}]`, `${sizeOf(shape)} values`, `${values.length}`);
    const begin = end;
    end += values.byteLength;
    return [name, { dtype: "F32", shape, data_offsets: [begin, end] }] as const;
  });
  const header = encodeHeader({ __metadata__: sortKeys(metadata), ...Object.fromEntries(described) });
  const length = new Uint8Array(LENGTH_BYTES);
  new DataView(length.buffer).setBigUint64(0, BigInt(header.length), true);
  return [length, header, ...entries.map(([, { values }]) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength))];
}

/** Tensors are views of `bytes` where these are aligned for float32, else copies. `subject` names the file in errors. */
export function decodeSafetensors(bytes: Uint8Array, subject = "a safetensors file"): SafetensorsFile {
  const { header, dataStart } = decodeHeader(bytes, subject);
  const { __metadata__: metadata = {}, ...described } = header;
  const inOrder = Object.entries(described).toSorted(([, one], [, other]) => compareOffsets(one.data_offsets, other.data_offsets));
  const tensors = new Map<string, FloatTensor>();
  let expected = 0;
  for (const [
    name,
    {
      dtype,
      shape,
      data_offsets: [begin, end],
    },
  ] of inOrder) {
    const tensor = `tensor ${name} of ${subject}`;
    if (dtype !== "F32") throw new RefusedError(tensor, "dtype F32", dtype);
    const next = expected + sizeOf(shape) * Float32Array.BYTES_PER_ELEMENT;
    // From where the one before ends to where its shape says: no gap, no overlap.
    if (begin !== expected || end !== next)
      throw new RefusedError(tensor, `bytes ${expected} to ${next} for shape [${shape.join(", ")}]`, `${begin} to ${end}`);
    tensors.set(name, { shape, values: floatsAt(bytes, dataStart + begin, end - begin) });
    expected = end;
  }
  const available = bytes.length - dataStart;
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

function decodeHeader(bytes: Uint8Array, subject: string): { header: z.infer<typeof headerSchema>; dataStart: number } {
  if (bytes.length < LENGTH_BYTES) throw new RefusedError(subject, `at least ${LENGTH_BYTES} bytes`, `${bytes.length}`);
  const length = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  const largest = Math.min(bytes.length - LENGTH_BYTES, MAX_HEADER_BYTES);
  if (length > largest) throw new RefusedError(`the header of ${subject}`, `at most ${largest} bytes`, `${length}`);
  const dataStart = LENGTH_BYTES + Number(length);
  const result = headerSchema.safeParse(parseJson(new TextDecoder().decode(bytes.subarray(LENGTH_BYTES, dataStart))));
  if (!result.success) throw new RefusedError(`the header of ${subject}`, "JSON that describes tensors", z.prettifyError(result.error));
  return { header: result.data, dataStart };
}

function floatsAt(bytes: Uint8Array, offset: number, byteLength: number): Float32Array {
  const start = bytes.byteOffset + offset;
  const length = byteLength / Float32Array.BYTES_PER_ELEMENT;
  if (start % Float32Array.BYTES_PER_ELEMENT === 0) return new Float32Array(bytes.buffer, start, length);
  const copy = new Float32Array(length);
  new Uint8Array(copy.buffer).set(bytes.subarray(offset, offset + byteLength));
  return copy;
}

/** By begin, and an empty tensor before the one that begins at the same place. */
function compareOffsets([oneBegin, oneEnd]: readonly [number, number], [otherBegin, otherEnd]: readonly [number, number]): number {
  return oneBegin - otherBegin || oneEnd - otherEnd;
}

function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, side) => product * side, 1);
}

function sortKeys(metadata: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(metadata).toSorted(([one], [other]) => (one < other ? -1 : 1)));
}
