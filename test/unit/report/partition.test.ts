import { DOMParser } from "linkedom";
import { describe, expect, it } from "vitest";
import { holdingsOf } from "../../../src/report/holdings.ts";
import { partitionPicture } from "../../../src/report/partition.ts";

const HOLDINGS = [
  {
    id: "c0",
    mix: [
      { value: "a", n: 1200 },
      { value: "b", n: 300 },
    ],
  },
  { id: "c1", mix: [{ value: "b", n: 100 }] },
];

function drawn(clients: Parameters<typeof holdingsOf>[0]) {
  const svg = partitionPicture(holdingsOf(clients), { isFile: true }) ?? "";
  const { documentElement } = new DOMParser().parseFromString(svg, "image/svg+xml");
  const texts = [...documentElement.querySelectorAll("text")].map(({ textContent }) => textContent ?? "");
  return { svg, documentElement, texts };
}

describe("the picture of a partition", () => {
  it("has a title, a description and its numbers as a file", () => {
    const { documentElement, texts } = drawn(HOLDINGS);
    expect(documentElement.querySelector("title")?.textContent).toBe("Who trains on what");
    expect(documentElement.getAttribute("role")).toBe("img");
    expect(documentElement.getAttribute("aria-label")).toContain("2 clients; 1,600 examples and 2 values in all");
    expect(texts).toEqual(
      expect.arrayContaining(["Who trains on what", "2 clients; 1,600 examples and 2 values in all", "a", "b", "c0", "c1"]),
    );
    // Totals of the rows, then of the columns.
    expect(texts).toEqual(expect.arrayContaining(["1,200", "400", "1,500", "100"]));
  });

  it("has a dot for every client and value, with the count as its area and in its tooltip", () => {
    const { documentElement } = drawn(HOLDINGS);
    const dots = [...documentElement.querySelectorAll("circle")].slice(0, 3);
    expect(dots.map((dot) => dot.querySelector("title")?.textContent)).toEqual([
      "c0, a: 1,200 examples",
      "c0, b: 300 examples",
      "c1, b: 100 examples",
    ]);
    const areas = dots.map((dot) => Number(dot.getAttribute("r")) ** 2);
    expect((areas[0] ?? 0) / (areas[1] ?? 1)).toBeCloseTo(4);
    expect((areas[0] ?? 0) / (areas[2] ?? 1)).toBeCloseTo(12);
  });

  it("has a legend of sizes for round numbers", () => {
    const { documentElement, texts } = drawn(HOLDINGS);
    expect(texts.slice(-4)).toEqual(["size of a dot", "1,000 examples", "200 examples", "50 examples"]);
    const [largest, second] = [...documentElement.querySelectorAll("circle")].slice(-3).map((dot) => Number(dot.getAttribute("r")) ** 2);
    expect((largest ?? 0) / (second ?? 1)).toBeCloseTo(5);
  });

  it("accepts one client with one example", () => {
    const { texts } = drawn([{ id: "c0", mix: [{ value: "a", n: 1 }] }]);
    expect(texts).toContain("1 client; 1 example and 1 value in all");
    expect(texts).toContain("1 example");
  });

  it("shows the largest and the smallest of many clients and the 29 most common values, says so, and totals over all", () => {
    // Value v0 occurs 40 times in each of ten clients, v39 once in each of ten.
    const many = Array.from({ length: 400 }, (_, client) => ({
      id: `c${client}`,
      mix: [{ value: `v${client % 40}`, n: 40 - (client % 40) }],
    }));
    const { texts, documentElement } = drawn(many);
    expect(texts).toContain("the 50 largest and the 50 smallest of 400 clients; 8,200 examples and 40 values in all");
    expect(texts).toEqual(expect.arrayContaining(["v0", "400", "v28", "120", "11 others", "660"]));
    expect(texts).not.toContain("v29");
    // Of the clients with v0 … v4 and v35 … v39, ten each.
    expect(texts).toEqual(expect.arrayContaining(["c0", "c360", "c364", "c35", "c399"]));
    expect(texts).not.toContain("c5");
    expect(texts).not.toContain("c34");
    expect(documentElement.querySelectorAll("circle title")).toHaveLength(100);
  });

  it("keeps a value named others apart from the combined row", () => {
    const mix = [{ value: "others", n: 99 }, ...Array.from({ length: 40 }, (_, value) => ({ value: `v${value}`, n: 1 }))];
    const { texts } = drawn([{ id: "c0", mix }]);
    expect(texts.filter((text) => text === "others" || text === "12 others")).toEqual(["others", "12 others"]);
  });

  it("is well-formed and escapes hostile names", () => {
    const hostile = [`<script>alert("1")</script>`, "]]>&amp;", "a\u202eb", "\u0000\u001b[2J", "\ud800", "\uffff"];
    const { svg, documentElement } = drawn(hostile.map((value) => ({ id: value, mix: [{ value, n: 3 }] })));
    expect(svg).not.toContain("<script");
    // oxlint-disable-next-line no-control-regex
    expect(svg).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u202e\uffff]|\p{Surrogate}/u);
    expect(documentElement.querySelector("circle title")?.textContent).toBe(`${hostile[0]}, ${hostile[0]}: 3 examples`);
  });

  it("is undefined if examples have no values", () => {
    expect(partitionPicture(holdingsOf([{ id: "c0", mix: [] }]))).toBeUndefined();
  });
});
