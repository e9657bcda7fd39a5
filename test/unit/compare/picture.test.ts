import { DOMParser } from "linkedom";
import { describe, expect, it } from "vitest";
import type { ComparisonResult } from "../../../src/compare/compare.ts";
import { curvesOf } from "../../../src/compare/curves.ts";
import { comparisonPicture } from "../../../src/compare/picture.ts";
import { outcome, result } from "../../support/comparison.ts";

function drawn(comparison: ComparisonResult) {
  const svg = comparisonPicture(comparison);
  const { documentElement } = new DOMParser().parseFromString(svg, "image/svg+xml");
  const texts = (selector = "text") => [...documentElement.querySelectorAll(selector)].map(({ textContent }) => textContent ?? "");
  return { svg, documentElement, texts };
}

/** Error bars, without the lines of the legend, which are outside the panels. */
function bars(root: ReturnType<typeof drawn>["documentElement"]) {
  return [...root.querySelectorAll(".panel [aria-label=rule] line")];
}

describe("the curves of a comparison", () => {
  it("have the mean ± standard deviation of the table, and start before training", () => {
    const [ours, , costly] = curvesOf(result);
    // 3 and 3.2: mean 3.1, sd 0.1·√2.
    expect(ours?.byRank[0]).toEqual({
      x: 1,
      y: expect.closeTo(3.1, 10),
      low: expect.closeTo(3.1 - 0.1414, 4),
      high: expect.closeTo(3.1 + 0.1414, 4),
    });
    // Over the tiers 2.5 and 2.7; 5 before training.
    expect(ours?.byRound.map(({ x }) => x)).toEqual([0, 2]);
    expect(ours?.byRound.map(({ y }) => y)).toEqual([expect.closeTo(5, 10), expect.closeTo(2.6, 10)]);
    expect(costly).toMatchObject({ method: "costly", seeds: 1, byRank: [{ y: 2.8, low: Number.NaN, high: Number.NaN }, {}] });
  });
});

describe("the picture of a comparison", () => {
  it("has a title, names each method once, and draws both of its curves, from round 0", () => {
    const { documentElement, texts } = drawn(result);
    expect(documentElement.querySelector("title")?.textContent).toBe("trial");
    expect(texts()).toContain("trial");
    expect(texts().join("\n")).toMatch(/^loss .*2 seeds.*equal rounds/m);
    for (const method of ["ours", "peer", "costly (1 of 2 seeds)"]) expect(texts().filter((text) => text === method)).toHaveLength(1);
    expect(documentElement.querySelectorAll("[aria-label=line]")).toHaveLength(2 * 3);
    expect(texts('.panel [aria-label="x-axis tick label"] text')).toEqual(["1", "2", "0", "2"]);
  });

  it("has an error bar for each point with several seeds, none for a single seed, and explains the bars", () => {
    const { documentElement, texts } = drawn(result);
    // Two methods, two ranks and two rounds.
    expect(bars(documentElement)).toHaveLength(2 * (2 + 2));
    expect(texts().join("\n")).toMatch(/^Bars: .*standard deviation.*1, 2\.$/m);
    const single = drawn({ ...result, seeds: [1], outcomes: result.outcomes.filter(({ seed }) => seed === 1) });
    expect(bars(single.documentElement)).toHaveLength(0);
    expect(single.texts().join("\n")).toMatch(/no error bars/);
  });

  it("gives 16 methods different combinations of colour, symbol and line", () => {
    const methods = Array.from({ length: 16 }, (_, index) => outcome(`m${index}`, 1, [3, 2]));
    const { documentElement } = drawn({ ...result, outcomes: methods });
    const dots = [...documentElement.querySelectorAll(".panel [aria-label=dot]")].slice(0, 16);
    const lines = [...documentElement.querySelectorAll(".panel [aria-label=line]")].slice(0, 16);
    const styles = lines.map((line, index) =>
      [
        dots[index]?.getAttribute("fill"),
        dots[index]?.querySelector("path, circle")?.outerHTML.replace(/transform="[^"]*"|c[xy]="[^"]*"/g, ""),
        line.getAttribute("stroke-dasharray"),
      ].join(" "),
    );
    expect(new Set(styles).size).toBe(16);
  });

  it("omits points with a diverged seed, and names their method", () => {
    const [first, ...others] = result.outcomes;
    if (!first) throw new Error("the fixture has outcomes");
    const diverged = { ...first, byTier: first.byTier.map((tier) => ({ ...tier, loss: null })) };
    const { svg, texts } = drawn({ ...result, outcomes: [diverged, ...others] });
    expect(svg).not.toMatch(/NaN|Infinity|undefined/);
    expect(texts().filter((text) => /not finite/.test(text))).toEqual([expect.stringMatching(/^ours: /)]);
  });

  it("says so if no run has finished", () => {
    const { svg, texts } = drawn({ ...result, tiers: [], outcomes: [] });
    expect(svg).not.toMatch(/NaN|Infinity|undefined/);
    expect(texts()).toEqual(expect.arrayContaining(["trial", "No run has finished."]));
  });

  it("is well-formed whatever characters names have, and shortens long names", () => {
    const names = [`<script>"&'`, "a\u202eb\u0000\ud800", "long ".repeat(100)];
    const { svg, texts } = drawn({ ...result, seeds: [1], outcomes: names.map((name) => outcome(name, 1, [3, 2])) });
    // oxlint-disable-next-line no-control-regex
    expect(svg).not.toMatch(/<script|[\u0000\u202e]|\p{Surrogate}/u);
    expect(texts()).toEqual(expect.arrayContaining([names[0], "a\\u202eb\\u0000\\ud800"]));
    expect(
      texts()
        .filter((text) => text.startsWith("long "))
        .map(({ length }) => length < 150),
    ).toEqual([true]);
  });

  it("has the same bytes for the same result", () => {
    expect(comparisonPicture(result)).toBe(comparisonPicture(result));
  });
});
