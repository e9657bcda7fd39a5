import { type Encoded, encodedBytes, type IntegerDtype } from "./encoded.ts";

/** The integers of an order-free sum, as another process sent them. */
export type EncodedIntegers = Encoded<IntegerDtype>;

/** Decodes integers [from, from + target.length). */
export function decodeIntegers(target: Float64Array, { dtype, bytes }: EncodedIntegers, from: number): void {
  const width = encodedBytes(dtype, 1);
  const encoded = bytes.subarray(from * width, (from + target.length) * width);
  if (dtype === "F64") new Uint8Array(target.buffer, target.byteOffset, target.byteLength).set(encoded);
  else decodePacked(target, encoded, width);
}

/** The lower four bytes are an unsigned number; the sign is in what is above them. */
function decodePacked(target: Float64Array, bytes: Uint8Array, width: number): void {
  const lowBytes = Math.min(width, 4);
  const highShift = 32 - 8 * (width - lowBytes);
  for (let index = 0, at = 0; index < target.length; index++, at += width) {
    let [low, high] = [0, 0];
    for (let byte = lowBytes - 1; byte >= 0; byte--) low = (low << 8) | (bytes[at + byte] as number);
    for (let byte = width - 1; byte >= 4; byte--) high = (high << 8) | (bytes[at + byte] as number);
    target[index] = width > 4 ? ((high << highShift) >> highShift) * 2 ** 32 + (low >>> 0) : (low << (32 - 8 * width)) >> (32 - 8 * width);
  }
}
