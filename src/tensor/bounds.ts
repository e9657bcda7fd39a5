import { RefusedError } from "../errors.ts";
import { createLane } from "./create-fold-kernel.ts";
import type { Encoded } from "./encoded.ts";
import { BLOCK } from "./fold-kernel.ts";
import { BLOCKS_A_TURN, type Work } from "../base/turns.ts";

export interface Beyond {
  readonly index: number;
  readonly value: number;
}

/** Shared: its content is not needed across a yield. */
const lane = createLane(0);

/** The first value that is not a number in [-largest, largest] (NaN is not). */
export function* firstBeyond(values: Encoded, largest: number): Work<Beyond | undefined> {
  for (let from = 0, blocks = 0; from < values.length; from += BLOCK, blocks++) {
    if (blocks > 0 && blocks % BLOCKS_A_TURN === 0) yield;
    lane.take(values, from, Math.min(from + BLOCK, values.length));
    const beyond = lane.firstBeyond(largest);
    if (beyond) return { index: from + beyond.index, value: beyond.value };
  }
  return undefined;
}

export function beyondBounds(subject: string, { index, value }: Beyond, largest: number): RefusedError {
  return new RefusedError(`${subject}[${index}]`, `a finite number of at most ${largest} in size`, `${value}`);
}
