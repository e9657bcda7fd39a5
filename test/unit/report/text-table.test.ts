import stringWidth from "string-width";
import { describe, expect, it } from "vitest";
import { qualityTable, roundsTable, type Table } from "../../../src/report/tables.ts";
import { renderTextTable, wrapProse } from "../../../src/report/text-table.ts";
import { roundEnd } from "../cli/reporters/story.ts";

const rounds = [0, 1, 2].flatMap((round) => {
  const event = roundEnd(round, [0.5, 0.625], [], []);
  return event.type === "round-end" ? [event.metrics] : [];
});
const tiers = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];
const plan: Table = {
  title: "Plan",
  columns: ["client", "examples", "tokens", "r", "rounds", "down per fit", "up", "trains on"],
  rows: [
    ["c00", "1,200", "31,000", "16", "8", "1.2 MiB", "1.2 MiB", "noun.artifact 31.0 %, noun.person 12.5 %, 14 more values"],
    ["犬の名前は長い", "7", "", "1", "8", "76.5 KiB", "76.5 KiB", "noun.communication 100.0 %"],
  ],
  prose: [7],
};
const tables = { plan, quality: qualityTable([1, 4], rounds), rounds: roundsTable(tiers, rounds) };

describe.each(Object.entries(tables))("the table of %s", (_, table) => {
  it.each([40, 60, 80, 100, 200])("fits %d columns without breaking a word or number", (width) => {
    const text = renderTextTable(table, width);
    for (const line of text.split("\n")) expect(stringWidth(line)).toBeLessThanOrEqual(width);
    expect(text).not.toMatch(/^ *%/m);
    const words = new Set(text.split(/\s+/));
    const cells = table.rows.flat().filter((cell) => cell !== "");
    expect([...table.columns, ...cells].flatMap((cell) => cell.split(" ")).filter((word) => !words.has(word))).toEqual([]);
    const numbers = table.rows.flatMap((row) => row.filter((_, index) => index > 0 && !table.prose?.includes(index)));
    expect(numbers.filter((number) => !text.includes(number))).toEqual([]);
  });
});

it("columns without room follow in a second block with the rows' names", () => {
  const table = { title: "T", columns: ["name", "first", "second"], rows: [["a", "1,000,000", "2,000,000"]] };
  expect(renderTextTable(table, 20)).toBe(
    [
      "T",
      "────────────────",
      " name      first",
      "────────────────",
      " a     1,000,000",
      "────────────────",
      "────────────────",
      " name     second",
      "────────────────",
      " a     2,000,000",
      "────────────────",
    ].join("\n"),
  );
});

it("a word longer than the terminal is not broken, and control characters are escaped", () => {
  const name = "x".repeat(60);
  const text = renderTextTable(
    {
      title: "",
      columns: ["client", "n"],
      rows: [
        [name, "1"],
        ["a\n\u001B[2Jb", "2"],
      ],
    },
    40,
  );
  expect(text.split("\n").some((line) => line.includes(name))).toBe(true);
  expect(text).toContain("a\\n\\u001b[2Jb");
});

it("prose is wrapped between words, and continuation lines are indented", () => {
  expect(wrapProse("short\n  adapted: one two three four", 20)).toBe("short\n  adapted: one\n      two three four");
  expect(wrapProse(`path ${"x".repeat(30)}`, 20)).toBe(`path\n    ${"x".repeat(30)}`);
  expect(wrapProse("as it is, however long", Infinity)).toBe("as it is, however long");
});
