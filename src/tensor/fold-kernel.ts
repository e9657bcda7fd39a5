import type { Encoded } from "./encoded.ts";

/** Values that are taken at a time; a whole number of groups that share a scale. */
export const BLOCK = 16384;

/** Integers of an order-free sum, and what adds a block of values to them. */
export interface Lane {
  /** All zero at first. */
  readonly integers: Float64Array;
  /** Takes values [from, to), at most a block of them and from a multiple of BLOCK on, in place of those before. */
  take(values: Encoded, from: number, to: number): void;
  /** Place in the block of the first value that is not a number in [-largest, largest] (NaN is not), and that value. */
  firstBeyond(largest: number): { readonly index: number; readonly value: number } | undefined;
  /** Adds `count` of its values, from `first` on, to the integers from `at` on: each times `factor`, rounded to an integer. */
  fold(first: number, count: number, at: number, factor: number): void;
}

/** 1.5 · 2^52: adding it to a number of at most 2^51 in size rounds that to an integer, and subtracting it is exact. */
export const ROUNDER = 6755399441055744;
