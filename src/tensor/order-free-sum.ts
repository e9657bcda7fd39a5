import { RefusedError } from "../errors.ts";
import { firstBeyond } from "./bounds.ts";

export interface SumBounds {
  readonly length: number;
  /** Largest |value| of any contribution. */
  readonly largestValue: number;
  /** Largest Σ of the weights of all contributions. */
  readonly totalWeight: number;
}

/** Values to be added from position `at` of the sum on. */
export interface Part {
  readonly at: number;
  readonly values: Float32Array;
}

/**
 * Σ weight·values that is the same to the last bit in whatever order contributions come.
 *
 * Every product y = value·weight·2^S is rounded to an integer, and only integers are summed. S is the largest
 * with largestValue·totalWeight·2^S ≤ 2^51, so with V, W for the bounds:
 * - |y| ≤ V·W·2^S ≤ 2^51 (rounding y to float64 keeps that: 2^51 is a float64). M + y for M = 1.5·2^52 thus
 *   lies in [2^52, 2^53], where float64 holds exactly the integers: adding M rounds y to one, subtracting it
 *   is exact. What a contribution becomes depends on itself alone.
 * - Over c contributions Σ|integer| ≤ Σ(|y| + ½) ≤ 2^51 + c/2 < 2^53, so every partial sum, in any order, is an
 *   integer below 2^53: no addition rounds.
 *
 * Relative to the total weight the resolution is 2^-S / W < V·2^-50, 6e-14 for V = 64, however many clients there are.
 */
export class OrderFreeSum {
  readonly #bounds: SumBounds;
  /** 2^S */
  readonly #resolution: number;
  readonly #integers: Float64Array;
  #weight = 0;

  constructor(bounds: SumBounds) {
    this.#bounds = bounds;
    this.#resolution = resolutionFor(bounds.largestValue * Math.max(bounds.totalWeight, 1));
    this.#integers = new Float64Array(bounds.length);
  }

  /**
   * Adds weight·values for every part of one contribution; parts do not overlap. Throws RefusedError, and leaves
   * the sum as it was, when a part or the weight is outside the bounds.
   */
  add(weight: number, parts: readonly Part[]): void {
    this.#requireWithinBounds(weight, parts);
    this.#weight += weight;
    for (const { at, values } of parts) addRounded(this.#integers, at, values, weight * this.#resolution);
  }

  /**
   * target[i] += (Σ weight·values)[at + i] / weight, computed in float64 and rounded once. Where the sum is zero
   * the target keeps its bytes.
   */
  addMeanTo(target: Float32Array, at: number, weight: number): void {
    const integers = this.#integers;
    const divisor = weight * this.#resolution;
    for (let index = 0; index < target.length; index++) {
      const sum = integers[at + index] as number;
      // -0 + 0 would be +0.
      if (sum !== 0) target[index] = (target[index] as number) + sum / divisor;
    }
  }

  #requireWithinBounds(weight: number, parts: readonly Part[]): void {
    const { length, largestValue, totalWeight } = this.#bounds;
    if (!(weight > 0 && this.#weight + weight <= totalWeight)) {
      throw new RefusedError(
        "the weight of a contribution",
        `above 0 and at most ${totalWeight - this.#weight} (what is left of ${totalWeight})`,
        `${weight}`,
      );
    }
    for (const { at, values } of parts) {
      if (at + values.length > length)
        throw new RefusedError(
          `a contribution to a sum of ${length} values`,
          `at most ${length - at} values from ${at} on`,
          `${values.length}`,
        );
      const beyond = firstBeyond(values, largestValue);
      if (beyond >= 0) throw new RefusedError(`value ${beyond} of a contribution`, `at most ${largestValue} in size`, `${values[beyond]}`);
    }
  }
}

/** 1.5 · 2^52 */
const ROUNDER = 6755399441055744;

function addRounded(integers: Float64Array, at: number, values: Float32Array, factor: number): void {
  for (let index = 0; index < values.length; index++) {
    integers[at + index] = (integers[at + index] as number) + ((values[index] as number) * factor + ROUNDER - ROUNDER);
  }
}

/** The largest 2^S with bound·2^S ≤ 2^51. By halving: Math.log2 may differ from one machine to another. */
function resolutionFor(bound: number): number {
  let resolution = 2 ** 51;
  while (bound * resolution > 2 ** 51) resolution /= 2;
  return resolution;
}
