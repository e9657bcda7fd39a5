import { describe, expect, test } from "vitest";
import { median, type RowSpec, summarise } from "../../bench/figures.ts";

const row: RowSpec = { name: "a round", unit: "ms", ours: "ours", peer: "theirs", target: { atMost: 0.5 } };

describe("a row of the bench", () => {
  test("is the median of ratios that are each of one repeat, with the least and the largest", () => {
    // The ratio of the medians would be 3 / 10.
    const samples = [
      { ours: 1, theirs: 4 },
      { ours: 3, theirs: 10 },
      { ours: 8, theirs: 16 },
    ];
    expect(summarise(row, samples)).toMatchObject({
      ours: 3,
      peer: 10,
      ratio: 0.3,
      spread: [0.25, 0.5],
      repeats: 3,
      target: "≤ 0.5",
      met: true,
    });
  });

  test("misses a target by a hair, and meets one exactly", () => {
    expect(summarise(row, [{ ours: 5.01, theirs: 10 }]).met).toBe(false);
    expect(summarise(row, [{ ours: 5, theirs: 10 }]).met).toBe(true);
    const least: RowSpec = { ...row, target: { atLeast: 2 } };
    expect(summarise(least, [{ ours: 20, theirs: 10 }])).toMatchObject({ met: true, target: "≥ 2" });
    expect(summarise(least, [{ ours: 19, theirs: 10 }]).met).toBe(false);
  });

  test("is held against a limit where there is no peer, and tells without a target", () => {
    expect(summarise({ ...row, peer: { limit: 10 }, target: { atMost: 1 } }, [{ ours: 9 }])).toMatchObject({
      peer: 10,
      ratio: 0.9,
      met: true,
    });
    const { target: _, ...telling } = row;
    expect(summarise(telling, [{ ours: 9, theirs: 3 }])).toMatchObject({ ratio: 3, target: null, met: null });
  });

  test("is refused when a figure was not measured", () => {
    expect(() => summarise(row, [{ ours: 1 }])).toThrow("a round: theirs was not measured: undefined");
    expect(() => summarise(row, [{ ours: Number.NaN, theirs: 1 }])).toThrow("a round: ours was not measured: NaN");
  });

  test("takes the mean of the two in the middle as median of an even number", () => {
    expect(median([4, 1, 3, 2])).toBe(2.5);
    expect(() => median([])).toThrow("the median of nothing");
  });
});
