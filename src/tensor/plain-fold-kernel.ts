import { decodeInto } from "./encoded.ts";
import { bytesOf } from "./encoded.ts";
import { BLOCK, type Lane, ROUNDER } from "./fold-kernel.ts";
import { decodeIntegers } from "./integers.ts";

/** For machines without vector instructions. */
export function createPlainLane(length: number): Lane {
  const integers = new Float64Array(length);
  const memory = new Float32Array(BLOCK);
  let values = memory;
  const integerMemory = new Float64Array(BLOCK);
  let taken = integerMemory;
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
    takeIntegers(encoded, from, to) {
      taken = integerMemory.subarray(0, to - from);
      decodeIntegers(taken, encoded, from);
    },
    firstImpossible(largest) {
      // NaN is not between any bounds.
      const index = taken.findIndex((value) => !(Math.abs(value) <= largest && Math.trunc(value) === value));
      return index < 0 ? undefined : { index, value: taken[index] as number };
    },
    addIntegers(first, count, at) {
      for (let index = 0; index < count; index++) {
        integers[at + index] = (integers[at + index] as number) + (taken[first + index] as number);
      }
    },
    fold(first, count, at, factor) {
      for (let index = 0; index < count; index++) {
        const rounded = (values[first + index] as number) * factor + ROUNDER - ROUNDER;
        integers[at + index] = (integers[at + index] as number) + rounded;
      }
    },
  };
}
