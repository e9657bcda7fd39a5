import { RefusedError } from "../errors.ts";
import { BLOCKS_A_TURN, type Work } from "../base/turns.ts";
import { type Encoded, encodedBytes, type IntegerDtype } from "./encoded.ts";
import { BLOCK } from "./fold-kernel.ts";

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

/** Throws a RefusedError unless all are integers of at most `largest` in size. */
export function* requireIntegers(subject: string, values: EncodedIntegers, largest: number): Work<void> {
  for (const { from, block } of integerBlocks(values)) {
    if (from > 0 && (from / BLOCK) % BLOCKS_A_TURN === 0) yield;
    for (let index = 0; index < block.length; index++) {
      const value = block[index] as number;
      // NaN fails both.
      if (Math.abs(value) <= largest && Math.trunc(value) === value) continue;
      throw new RefusedError(`${subject}[${from + index}]`, `an integer of at most ${largest} in size`, `${value}`);
    }
  }
}

/** The integers block by block, decoded. A block must not be read after the next one was asked for. */
export function* integerBlocks(values: EncodedIntegers): Generator<{ readonly from: number; readonly block: Float64Array }> {
  const memory = new Float64Array(Math.min(BLOCK, values.length));
  for (let from = 0; from < values.length; from += BLOCK) {
    const block = memory.subarray(0, Math.min(BLOCK, values.length - from));
    decodeIntegers(block, values, from);
    yield { from, block };
  }
}
