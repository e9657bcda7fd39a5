import type { RobustRule } from "./rule.ts";

/**
 * Coordinate-wise median (Yin et al. 2018, https://arxiv.org/abs/1803.01498, Definition 1): of an even number of values the
 * mean of the two in the middle. Clients count alike, whatever they hold. While less than half of a segment's clients are
 * malicious, every coordinate lies between two honest values.
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
