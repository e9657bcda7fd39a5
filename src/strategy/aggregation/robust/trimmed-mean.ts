import { requireOption } from "../../policy.ts";
import type { RobustRule } from "./rule.ts";

export interface TrimmedMeanOptions {
  /** β, above 0 and below ½: the share of a segment's clients left out at either end of every coordinate, rounded down. */
  readonly trim: number;
}

/**
 * Coordinate-wise β-trimmed mean (Yin et al. 2018, https://arxiv.org/abs/1803.01498, Definition 2): the mean of every
 * coordinate's K values without the ⌊β·K⌋ largest and the ⌊β·K⌋ smallest. All clients have the same weight. While at most
 * ⌊β·K⌋ of them are malicious, every coordinate is between two honest values.
 */
export function trimmedMean({ trim }: TrimmedMeanOptions): RobustRule {
  requireOption(trim > 0 && trim < 0.5, "robust.trim", "above 0 and below 0.5", trim);
  return {
    atLeast: Math.ceil(roundOff(1 / trim)),
    step(values) {
      const left = Math.floor(roundOff(trim * values.length));
      values.sort();
      let sum = 0;
      for (let index = left; index < values.length - left; index++) sum += values[index] as number;
      return sum / (values.length - 2 * left);
    },
  };
}

/** So that 0.07·100 is 7, not slightly more. */
function roundOff(value: number): number {
  return Math.round(value * 1e9) / 1e9;
}
