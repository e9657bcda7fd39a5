import type { TierMetrics } from "../records/metrics.ts";
import type { Quality } from "./quality.ts";

/**
 * Whether a change of the quality is larger than its 95 % interval; undefined where an interval is missing. The interval of a
 * difference follows from those of its two ends (the square-and-add method of R. G. Newcombe, Statistics in Medicine 17, 1998,
 * p. 873). It takes the two as measured on different examples. They are the same ones, so the change is more certain than it says:
 * what it calls clear is clear.
 */
export function isClearChange(quality: Quality, before: TierMetrics, after: TierMetrics): boolean | undefined {
  const [from, to] = [quality.of(before), quality.of(after)];
  const [first, last] = [quality.interval(before), quality.interval(after)];
  if (from === null || to === null || !first || !last) return undefined;
  const change = to - from;
  return change < 0 ? -change > Math.hypot(last.high - to, from - first.low) : change > Math.hypot(to - last.low, first.high - from);
}
