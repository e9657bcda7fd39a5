import { expect, test } from "vitest";
import type { TierMetrics } from "../../../src/records/metrics.ts";
import { isClearChange } from "../../../src/report/change.ts";
import { qualityOf } from "../../../src/report/quality.ts";
import { tierMetrics } from "../../support/tier-metrics.ts";

const at = (accuracy: number, interval?: readonly [low: number, high: number]): TierMetrics =>
  tierMetrics(1, { loss: 1, accuracy, ...(interval && { intervals: [{ name: "accuracy", low: interval[0], high: interval[1] }] }) });
const quality = qualityOf([]);
const accuracy = { ...quality, of: (tier: TierMetrics) => tier.accuracy, interval: ({ intervals = [] }: TierMetrics) => intervals[0] };

test.each([
  // The ends that face one another are 0.03 and 0.04 away: together 0.05.
  ["clear above them together", 0.5, 0.551, true],
  ["unclear below, though the intervals do not overlap by as much", 0.5, 0.549, false],
  ["clear if it falls by more", 0.6, 0.549, true],
  ["unclear if nothing changes", 0.5, 0.5, false],
])("a change is %s", (_, from, to, isClear) => {
  const isUp = to >= from;
  const [before, after] = [at(from, [from - 0.03, from + 0.03]), at(to, [to - 0.04, to + 0.04])];
  expect(isClearChange(accuracy, before, after)).toBe(isClear);
  // Only the sides that face one another count.
  const wide = isUp ? at(from, [from - 0.4, from + 0.03]) : at(from, [from - 0.03, from + 0.4]);
  expect(isClearChange(accuracy, wide, after)).toBe(isClear);
});

test("without intervals nothing is said", () => {
  expect(isClearChange(accuracy, at(0.5), at(0.9, [0.8, 1]))).toBeUndefined();
});
