import { decodeInto } from "./encoded.ts";
import { bytesOf } from "./encoded.ts";
import { BLOCK, type Lane, ROUNDER } from "./fold-kernel.ts";

/** For machines without vector instructions. */
export function createPlainLane(length: number): Lane {
  const integers = new Float64Array(length);
  const memory = new Float32Array(BLOCK);
  let values = memory;
  return {
    integers,
    take(encoded, from, to) {
      values = memory.subarray(0, to - from);
      decodeInto(values, encoded.dtype, bytesOf(encoded, from, to));
    },
    firstBeyond(largest) {
      for (let index = 0; index < values.length; index++) {
        const value = values[index] as number;
        if (!(Math.abs(value) <= largest)) return { index, value };
      }
      return undefined;
    },
    fold(first, count, at, factor) {
      for (let index = 0; index < count; index++) {
        const rounded = (values[first + index] as number) * factor + ROUNDER - ROUNDER;
        integers[at + index] = (integers[at + index] as number) + rounded;
      }
    },
  };
}
