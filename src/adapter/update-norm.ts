import { decodeInto } from "../tensor/encoded.ts";
import { bytesOf, type Encoded } from "../tensor/encoded.ts";
import { BLOCK } from "../tensor/fold-kernel.ts";
import { BLOCKS_A_TURN, type Work } from "../base/turns.ts";
import type { Adapter } from "./adapter.ts";
import { encodingOf } from "./encoded-adapter.ts";

/** ‖Δ‖₂ over rows and dense together, in float64. Not finite if a value is not. */
export function* updateNorm(delta: Adapter): Work<number> {
  const { rows, dense } = encodingOf(delta);
  return Math.sqrt((yield* sumOfSquares(rows)) + (yield* sumOfSquares(dense)));
}

/** Shared: its content is not needed across a yield. */
const memory = new Float32Array(BLOCK);

function* sumOfSquares(values: Encoded): Work<number> {
  let sum = 0;
  for (let from = 0, blocks = 0; from < values.length; from += BLOCK, blocks++) {
    if (blocks > 0 && blocks % BLOCKS_A_TURN === 0) yield;
    const to = Math.min(from + BLOCK, values.length);
    const block = memory.subarray(0, to - from);
    decodeInto(block, values.dtype, bytesOf(values, from, to));
    for (let index = 0; index < block.length; index++) sum += (block[index] as number) ** 2;
  }
  return sum;
}
