import { RefusedError } from "../errors.ts";
import { beyondBounds } from "./bounds.ts";
import { createLane } from "./create-fold-kernel.ts";
import type { Encoded } from "./encoded.ts";
import { BLOCK, type Lane } from "./fold-kernel.ts";
import type { EncodedIntegers } from "./integers.ts";
import { BLOCKS_A_TURN, type Work } from "../base/turns.ts";

export interface SumBounds {
  readonly length: number;
  /** Largest |value| of any contribution. */
  readonly largestValue: number;
  /** Largest Σ of the weights of all contributions. */
  readonly totalWeight: number;
}

/** Values to add to the sum from index `at` on. */
export interface Part {
  /** Names it in errors. */
  readonly name: string;
  readonly at: number;
  readonly values: Encoded;
}

/** Integers of another sum, to be added from index `at` on. */
export interface IntegerPart extends Omit<Part, "values"> {
  readonly values: EncodedIntegers;
}

/**
 * Σ weight·values that is the same to the last bit for any order of contributions.
 *
 * Every product y = value·weight·2^S is rounded to an integer, and only integers are summed. S is the largest
 * with largestValue·totalWeight·2^S ≤ 2^51, so with V, W for the bounds:
 * - |y| ≤ V·W·2^S ≤ 2^51 (rounding y to float64 keeps that: 2^51 is a float64). M + y for M = 1.5·2^52 thus
 *   is in [2^52, 2^53], where float64 holds exactly the integers: adding M rounds y to one, subtracting it
 *   is exact. The integers of a contribution depend on that contribution alone.
 * - Over c contributions Σ|integer| ≤ Σ(|y| + ½) ≤ 2^51 + c/2 < 2^53, so every partial sum, in any order, is an
 *   integer below 2^53: no addition rounds.
 *
 * A contribution is added block by block. One that is refused half-way is undone by adding its negative, which is just as
 * exact: the sum is then as if it had never been added, whatever else was added meanwhile.
 *
 * Relative to the total weight the resolution is 2^-S / W < V·2^-50, or 6e-14 for V = 64, for any number of clients.
 */
export class OrderFreeSum {
  readonly #bounds: SumBounds;
  /** 2^S */
  readonly resolution: number;
  readonly #lanes: readonly Lane[];
  readonly #laneLength: number;
  #weight = 0;

  /** Reuses the memory of `spare`, a sum that is no longer used, if it has the same length. */
  constructor(bounds: SumBounds, { spare, laneLength = LANE_LENGTH, makeLane = createLane }: SumOptions = {}) {
    this.#bounds = bounds;
    this.resolution = resolutionFor(bounds.largestValue * Math.max(bounds.totalWeight, 1));
    this.#laneLength = laneLength;
    if (spare && spare.#bounds.length === bounds.length && spare.#laneLength === laneLength) {
      this.#lanes = spare.#lanes;
      for (const { integers } of this.#lanes) integers.fill(0);
      return;
    }
    this.#lanes = Array.from({ length: Math.ceil(bounds.length / laneLength) }, (_, index) =>
      makeLane(Math.min(laneLength, bounds.length - index * laneLength)),
    );
  }

  /**
   * Adds weight·scale·values for every part of one contribution; parts do not overlap, `scale` is at most 1. Throws
   * RefusedError, and leaves the sum unchanged, if a part or the weight is out of bounds. Several may be added concurrently.
   */
  *add(weight: number, parts: readonly Part[], scale = 1): Work<void> {
    this.#requireRoom(weight, parts);
    this.#weight += weight;
    const factor = weight * scale * this.resolution;
    const added: Block[] = [];
    for (const block of blocksOf(parts)) {
      if (added.length > 0 && added.length % BLOCKS_A_TURN === 0) yield;
      const problem = this.#fold(block, factor);
      if (problem) {
        for (const earlier of added) this.#fold(earlier, -factor);
        this.#weight -= weight;
        throw problem;
      }
      added.push(block);
    }
  }

  /**
   * Adds the integers of another sum with this resolution: of `members` contributions with that total weight. All parts are
   * checked before any is added. Throws RefusedError, and leaves the sum unchanged, if one is not a sum of such contributions.
   */
  *merge(weight: number, members: number, parts: readonly IntegerPart[]): Work<void> {
    this.#requireRoom(weight, parts);
    const largest = this.#bounds.largestValue * weight * this.resolution + members / 2;
    this.#weight += weight;
    const blocks = [...blocksOf(parts)];
    try {
      for (const [index, block] of blocks.entries()) {
        if (index > 0 && index % BLOCKS_A_TURN === 0) yield;
        this.#requirePossible(block, largest);
      }
    } catch (error) {
      this.#weight -= weight;
      throw error;
    }
    for (const [index, block] of blocks.entries()) {
      if (index > 0 && index % BLOCKS_A_TURN === 0) yield;
      this.#addIntegers(block);
    }
  }

  /**
   * target[i] += (Σ weight·values)[at + i] / weight, computed in float64 and rounded once. Where the sum is zero
   * the target keeps its bytes.
   */
  addMeanTo(target: Float32Array, at: number, weight: number): void {
    const divisor = weight * this.resolution;
    for (const { lane, start, from, to } of this.#stretches(at, target.length)) {
      const integers = lane.integers.subarray(start, start + to - from);
      const values = target.subarray(from, to);
      for (let index = 0; index < values.length; index++) {
        const sum = integers[index] as number;
        // -0 + 0 would be +0.
        if (sum !== 0) values[index] = (values[index] as number) + sum / divisor;
      }
    }
  }

  /** Adds a block, or returns why it cannot and adds nothing. */
  #fold({ part, from, to }: Block, factor: number): RefusedError | undefined {
    const { largestValue } = this.#bounds;
    let holder: Lane | undefined;
    for (const stretch of this.#stretches(part.at + from, to - from)) {
      // A block that spans two lanes is taken by both.
      if (holder !== stretch.lane) stretch.lane.take(part.values, from, to);
      const beyond = holder ? undefined : stretch.lane.firstBeyond(largestValue);
      if (beyond) return beyondBounds(part.name, { ...beyond, index: from + beyond.index }, largestValue);
      holder = stretch.lane;
      stretch.lane.fold(stretch.from, stretch.to - stretch.from, stretch.start, factor);
    }
    return undefined;
  }

  /** Throws a RefusedError if a number is not an integer of at most `largest` in size. */
  #requirePossible({ part, from, to }: Block<IntegerPart>, largest: number): void {
    const [{ lane } = { lane: undefined }] = this.#stretches(part.at + from, to - from);
    lane?.takeIntegers(part.values, from, to);
    const wrong = lane?.firstImpossible(largest);
    if (wrong) throw new RefusedError(`${part.name}[${from + wrong.index}]`, `an integer of at most ${largest} in size`, `${wrong.value}`);
  }

  #addIntegers({ part, from, to }: Block<IntegerPart>): void {
    let holder: Lane | undefined;
    for (const stretch of this.#stretches(part.at + from, to - from)) {
      if (holder !== stretch.lane) stretch.lane.takeIntegers(part.values, from, to);
      holder = stretch.lane;
      stretch.lane.addIntegers(stretch.from, stretch.to - stretch.from, stretch.start);
    }
  }

  /** The lanes of `length` values from `at` on: values [from, to) go to index `start` of a lane. */
  *#stretches(at: number, length: number): Generator<{ lane: Lane; start: number; from: number; to: number }> {
    for (let from = 0; from < length;) {
      const index = Math.floor((at + from) / this.#laneLength);
      const start = at + from - index * this.#laneLength;
      const to = Math.min(length, from + this.#laneLength - start);
      yield { lane: this.#lanes[index] as Lane, start, from, to };
      from = to;
    }
  }

  #requireRoom(weight: number, parts: readonly (Part | IntegerPart)[]): void {
    const { length, totalWeight } = this.#bounds;
    if (!(weight > 0 && this.#weight + weight <= totalWeight)) {
      throw new RefusedError(
        "the weight of a contribution",
        `above 0 and at most ${totalWeight - this.#weight} (what is left of ${totalWeight})`,
        `${weight}`,
      );
    }
    for (const { name, at, values } of parts) {
      if (at + values.length > length)
        throw new RefusedError(`${name} in a sum of ${length} values`, `at most ${length - at} values from ${at} on`, `${values.length}`);
    }
  }
}

export interface SumOptions {
  readonly spare?: OrderFreeSum | undefined;
  /** Number of integers in one memory. */
  readonly laneLength?: number;
  readonly makeLane?: (length: number) => Lane;
}

/** 512 MiB of float64. */
const LANE_LENGTH = 2 ** 26;

/** Values [from, to) of a part. */
interface Block<P = Part> {
  readonly part: P;
  readonly from: number;
  readonly to: number;
}

function* blocksOf<P extends Part | IntegerPart>(parts: readonly P[]): Generator<Block<P>> {
  for (const part of parts) {
    const { length } = part.values;
    for (let from = 0; from < length; from += BLOCK) yield { part, from, to: Math.min(from + BLOCK, length) };
  }
}

/** The largest 2^S with bound·2^S ≤ 2^51. By halving: Math.log2 may differ from one machine to another. */
function resolutionFor(bound: number): number {
  let resolution = 2 ** 51;
  while (bound * resolution > 2 ** 51) resolution /= 2;
  return resolution;
}
