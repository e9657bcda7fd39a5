import { expect, test } from "vitest";
import type { TimelineData } from "../../../src/ui/messages.ts";
import { formatClock, timeTicks, windowOf } from "../../../src/ui/page/timeline-axis.ts";

const data: TimelineData = {
  workers: ["w0"],
  spans: [],
  rounds: [1, 2, 3].map((round) => ({ round, at: 10_000 * round })),
  resumes: [],
  offset: 0,
  now: 42_000,
  dropped: 0,
};

test("times are written as on a clock: minutes and seconds, hours from the first on, and decimals below a second", () => {
  expect([0, 999, 63_000, 3_599_999, 3_723_000, 90_061_000].map((at) => formatClock(at))).toEqual([
    "0:00",
    "0:00",
    "1:03",
    "59:59",
    "1:02:03",
    "25:01:01",
  ]);
  expect([0, 100, 299, 300, 61_500].map((at) => formatClock(at, 1))).toEqual(["0:00.0", "0:00.1", "0:00.2", "0:00.3", "1:01.5"]);
});

test("ticks are at round times, at most as many as asked for, and none outside of what is shown", () => {
  expect(timeTicks(0, 42_000, { most: 5 }).map(({ text }) => text)).toEqual(["0:00", "0:10", "0:20", "0:30", "0:40"]);
  expect(timeTicks(25_000, 42_000, { most: 4 })).toEqual([
    { at: 25_000, text: "0:25" },
    { at: 30_000, text: "0:30" },
    { at: 35_000, text: "0:35" },
    { at: 40_000, text: "0:40" },
  ]);
  expect(timeTicks(0, 1000, { most: 6 }).map(({ text }) => text)).toEqual(["0:00.0", "0:00.2", "0:00.4", "0:00.6", "0:00.8", "0:01.0"]);
  const days = timeTicks(0, 100 * 86_400_000, { most: 10 });
  expect(days.length).toBeLessThanOrEqual(11);
  expect(days[1]?.text).toBe("240:00:00");
});

test("the time of a single round is counted from its start, that of several from the run's", () => {
  expect(windowOf(data, "1")).toEqual({ from: 30_000, to: 42_000, origin: 30_000, since: "round 3 began" });
  expect(timeTicks(30_000, 42_000, { most: 3, origin: 30_000 }).map(({ text }) => text)).toEqual(["0:00", "0:05", "0:10"]);
  expect(windowOf(data, "2")).toEqual({ from: 20_000, to: 42_000, origin: 0, since: "the run's start" });
  expect(windowOf(data, "10")).toMatchObject({ from: 0, origin: 0 });
});

test("a run without rounds or events has a window that is not empty", () => {
  for (const shown of ["1", "all"]) {
    const { from, to } = windowOf({ ...data, rounds: [], now: 0 }, shown);
    expect(to).toBeGreaterThan(from);
  }
});
