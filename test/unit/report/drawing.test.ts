import { describe, expect, it } from "vitest";
import { fitScale, fitText, roundTicks, spreadApart, textWidth } from "../../../src/report/drawing.ts";

describe("spreadApart", () => {
  it("leaves labels that are far enough apart where they are, in the order given", () => {
    expect(spreadApart([50, 10, 30], 12, [0, 100])).toEqual([50, 10, 30]);
  });

  it("moves neighbours apart around their mean", () => {
    expect(spreadApart([50, 50, 90], 12, [0, 100])).toEqual([44, 56, 90]);
    expect(spreadApart([50, 52, 54], 12, [0, 100])).toEqual([40, 52, 64]);
  });

  it("keeps labels within the range if they fit", () => {
    expect(spreadApart([0, 0, 0], 10, [0, 100])).toEqual([0, 10, 20]);
    expect(spreadApart([100, 100, 100], 10, [0, 100])).toEqual([80, 90, 100]);
    expect(spreadApart([5, 5, 5], 10, [0, 12])).toEqual([0, 10, 20]);
  });

  it("accepts no labels and one label", () => {
    expect(spreadApart([], 10, [0, 100])).toEqual([]);
    expect(spreadApart([7], 10, [0, 100])).toEqual([7]);
  });
});

describe("roundTicks", () => {
  it.each([
    [1, [0, 1]],
    [6, [0, 1, 2, 3, 4, 5, 6]],
    [10, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]],
    [11, [0, 2, 4, 6, 8, 10]],
    [37, [0, 5, 10, 15, 20, 25, 30, 35]],
    [437, [0, 50, 100, 150, 200, 250, 300, 350, 400]],
    [1001, [0, 200, 400, 600, 800, 1000]],
  ])("are at most eleven integers from 0 for %i rounds", (last, expected) => {
    expect(roundTicks(last)).toEqual(expected);
  });
});

describe("fitScale", () => {
  it("fits the values with a little room instead of starting at 0", () => {
    expect(fitScale([70, 78], { least: 0, most: 100 })).toMatchObject({ type: "linear", domain: [69.68, 78.32] });
  });

  it("stays within the bounds", () => {
    expect(fitScale([0, 100], { least: 0, most: 100 }).domain).toEqual([0, 100]);
  });

  it("has a width even if all values are equal, all are 0, or there are none", () => {
    expect(fitScale([50, 50]).domain).toEqual([48, 52]);
    expect(fitScale([0]).domain).toEqual([-0.5, 0.5]);
    expect(fitScale([]).domain).toEqual([-0.04, 1.04]);
  });

  it("is logarithmic over more than a factor of ten with few ticks, unless a value is 0", () => {
    expect(fitScale([2, 30])).toMatchObject({ type: "log", ticks: [2, 5, 10, 20] });
    expect(fitScale([1, 1e12]).ticks).toHaveLength(5);
    expect(fitScale([0, 1e12]).type).toBe("linear");
  });

  it("formats ticks to fit the margin, however large", () => {
    const format = fitScale([1, 3e6]).tickFormat as (value: number) => string;
    expect([0, 1e6, 2.5e6, 1e300].map(format)).toEqual(["0", "1e6", "2.5e6", "1e300"]);
  });
});

describe("fitText", () => {
  it("keeps text that fits, and the beginning and end of longer text", () => {
    expect(fitText("noun.person", 150, 12)).toBe("noun.person");
    // 20 characters of 0.6 × 10 pixels: one for …, nine for either end.
    expect(fitText("speaker_with_a_long_name_12", 120, 10)).toBe("speaker_w…g_name_12");
  });

  it("measures wide characters as wider, and never cuts one in half", () => {
    expect(textWidth("日本", 10)).toBeCloseTo(21);
    const family = "👩‍👩‍👧‍👦";
    expect(fitText(family.repeat(9), 50, 10)).toBe(`${family.repeat(2)}…${family.repeat(2)}`);
  });

  it("escapes invisible characters", () => {
    expect(fitText("a\u202eb\u0000", 150, 10)).toBe("a\\u202eb\\u0000");
  });
});
