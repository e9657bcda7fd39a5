import type { Encoded } from "./encoded.ts";
import type { EncodedIntegers } from "./integers.ts";

/** Values processed at a time; a whole number of groups that share a scale. */
export const BLOCK = 16384;

/** The integers of an order-free sum, and the operations that add a block of values to them. */
export interface Lane {
  /** Initially all zero. */
  readonly integers: Float64Array;
  /** Replaces the current block by values [from, to): at most one block, with `from` a multiple of BLOCK. */
  take(values: Encoded, from: number, to: number): void;
  /** The first value of the block outside [-largest, largest], including NaN, and its index. */
  firstBeyond(largest: number): { readonly index: number; readonly value: number } | undefined;
  /** Replaces the current block by integers [from, to) of a sum: at most one block. */
  takeIntegers(values: EncodedIntegers, from: number, to: number): void;
  /** The first number of a block of integers that is not an integer in [-largest, largest], and its index. */
  firstImpossible(largest: number): { readonly index: number; readonly value: number } | undefined;
  /** Adds `count` integers of the block, from `first` on, to the lane's from `at` on. */
  addIntegers(first: number, count: number, at: number): void;
  /** Adds `count` values of the block, from `first` on, to the integers from `at` on, each times `factor` and rounded. */
  fold(first: number, count: number, at: number, factor: number): void;
}

/** 1.5 · 2^52: adding it to a number of at most 2^51 in size rounds that to an integer, and subtracting it is exact. */
export const ROUNDER = 6755399441055744;
