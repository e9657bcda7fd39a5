/**
 * The wire encoding of values, in safetensors' spelling, or `I8X256`, which safetensors lacks: groups of 256 values (the last
 * may be shorter), each a float32 scale and then an int8 for every value, which stands for the float32 nearest to scale·int8.
 */
export type Dtype = "F32" | "BF16" | "F16" | "I8X256";

/**
 * How the integers of an order-free sum are encoded: as float64, or in two's complement of so many bits, as few whole bytes as
 * the largest of them needs.
 */
export const INTEGER_DTYPES = ["F64", "I8", "I16", "I24", "I32", "I40", "I48", "I56"] as const;
export type IntegerDtype = (typeof INTEGER_DTYPES)[number];
/** `U8` is bytes that are no values of an adapter. */
export type WireDtype = Dtype | IntegerDtype | "U8";

export function isIntegerDtype(dtype: WireDtype): dtype is IntegerDtype {
  return (INTEGER_DTYPES as readonly string[]).includes(dtype);
}

/** Values in their wire encoding, little-endian. */
export interface Encoded<D extends WireDtype = Dtype> {
  readonly dtype: D;
  /** Number of values. */
  readonly length: number;
  readonly bytes: Uint8Array;
}

/** Values that share one scale in `I8X256`. */
const GROUP = 256;

/** Number of bytes for `length` values. */
export function encodedBytes(dtype: WireDtype, length: number): number {
  switch (dtype) {
    case "U8":
      return length;
    case "F32":
      return 4 * length;
    case "BF16":
    case "F16":
      return 2 * length;
    case "I8X256":
      return length + 4 * Math.ceil(length / GROUP);
    case "F64":
      return 8 * length;
    case "I8":
    case "I16":
    case "I24":
    case "I32":
    case "I40":
    case "I48":
    case "I56":
      return (Number(dtype.slice(1)) / 8) * length;
  }
}

/** A view of float32 values in memory. */
export function asFloat32(values: Float32Array): Encoded {
  return { dtype: "F32", length: values.length, bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) };
}

/** The nearest bfloat16 of every value, halves to even. */
export function toBfloat16(values: Float32Array): Encoded {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const rounded = new Uint16Array(bits.length);
  for (let index = 0; index < bits.length; index++) rounded[index] = roundToBfloat16(bits[index] as number);
  return { dtype: "BF16", length: values.length, bytes: new Uint8Array(rounded.buffer) };
}

/** Float32 values; a view if they are already in float32 and aligned. */
export function decode({ dtype, length, bytes }: Encoded): Float32Array {
  if (dtype === "F32" && bytes.byteOffset % 4 === 0) return new Float32Array(bytes.buffer, bytes.byteOffset, length);
  const values = new Float32Array(length);
  decodeInto(values, dtype, bytes);
  return values;
}

/** Values [from, to); a view if `decode` returns one. */
export function decodePart(values: Encoded, from: number, to: number): Float32Array {
  const [start, end] = wholeGroups(values, from, to);
  const part = { dtype: values.dtype, length: end - start, bytes: bytesOf(values, start, end) };
  return decode(part).subarray(from - start, to - start);
}

/** The range that must be decoded to get values [from, to): in `I8X256`, values that share a scale belong together. */
export function wholeGroups({ dtype, length }: Omit<Encoded, "bytes">, from: number, to: number): readonly [start: number, end: number] {
  if (dtype !== "I8X256") return [from, to];
  return [from - (from % GROUP), Math.min(length, Math.ceil(to / GROUP) * GROUP)];
}

/** The bytes of values [from, to); in `I8X256`, of whole groups except for the last. */
export function bytesOf({ dtype, bytes }: Encoded, from: number, to: number): Uint8Array {
  return bytes.subarray(encodedBytes(dtype, from), encodedBytes(dtype, to));
}

function roundToBfloat16(bits: number): number {
  const isNaN = (bits & 0x7fffffff) > 0x7f800000;
  // Rounding could carry a NaN over into a number; a quiet NaN is kept.
  return isNaN ? (bits >>> 16) | 0x40 : (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** Decodes `target.length` values. fold.assembly.ts decodes to the same bits, except for those of a NaN. */
export function decodeInto(target: Float32Array, dtype: Dtype, bytes: Uint8Array): void {
  switch (dtype) {
    case "F32":
      new Uint8Array(target.buffer, target.byteOffset, target.byteLength).set(bytes.subarray(0, target.byteLength));
      return;
    case "BF16": {
      const bits = new Uint32Array(target.buffer, target.byteOffset, target.length);
      const halves = halvesOf(bytes);
      for (let index = 0; index < bits.length; index++) bits[index] = (halves[index] as number) << 16;
      return;
    }
    case "F16": {
      const halves = halvesOf(bytes);
      for (let index = 0; index < target.length; index++) target[index] = float16(halves[index] as number);
      return;
    }
    case "I8X256":
      return decodeGroups(target, bytes);
  }
}

function decodeGroups(target: Float32Array, bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const steps = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  for (let start = 0; start < target.length; start += GROUP) {
    const scale = view.getFloat32(at, true);
    at += 4;
    const end = Math.min(start + GROUP, target.length);
    for (let index = start; index < end; index++, at++) target[index] = (steps[at] as number) * scale;
  }
}

/** Sign, five bits of exponent, ten of fraction. */
function float16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 31;
  const fraction = bits & 0x3ff;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : Number.NaN;
  return sign * (exponent === 0 ? fraction : 1024 + fraction) * (UNITS[exponent] as number);
}

/** The value of a fraction of 1 by exponent; exponent 0 has no implicit leading one and the same unit as 1. */
const UNITS = Float64Array.from({ length: 31 }, (_, exponent) => 2 ** (Math.max(exponent, 1) - 25));

/** A view if the bytes are aligned, else a copy. */
function halvesOf(bytes: Uint8Array): Uint16Array {
  const { buffer, byteOffset, byteLength } = bytes.byteOffset % 2 === 0 ? bytes : bytes.slice();
  return new Uint16Array(buffer, byteOffset, byteLength / 2);
}
