import type { RobustRule } from "./rule.ts";

/**
 * Coordinate-wise median (Yin et al. 2018, https://arxiv.org/abs/1803.01498, Definition 1): for an even number of values
 * the mean of the middle two. All clients have the same weight. While less than half of a segment's clients are malicious,
 * every coordinate is between two honest values.
 */
export function median(): RobustRule {
  return {
    atLeast: 3,
    step(values) {
      values.sort();
      const middle = (values.length - 1) / 2;
      return ((values[Math.floor(middle)] as number) + (values[Math.ceil(middle)] as number)) / 2;
    },
  };
}
