import * as Plot from "@observablehq/plot";
import { visibleLine } from "./visible.ts";
import { draw, fitText, inPixels, textWidth } from "./drawing.ts";
import { formatCount, plural } from "./format.ts";
import { type Cell, type Holdings, tabulate } from "./holdings.ts";

const TITLE = "Who trains on what";
const [FONT, ROW, GAP, LABEL_WIDTH] = [12, 22, 12, 150];

/**
 * One dot per client and value, its area the number of examples with that value that the client trains on; the totals of rows and
 * columns, and a legend of sizes. In the colours of a report, or as a standalone SVG file with a title. Undefined if examples have
 * no values.
 */
export function partitionPicture(holdings: Holdings, { isFile = false } = {}): string | undefined {
  const table = tabulate(holdings);
  if (table === undefined) return undefined;
  const { clients, values, cells, largest } = table;
  const column = clients.length <= 20 ? 40 : clients.length <= 40 ? 26 : 16;
  const radius = Math.min(10, column / 2 - 1);
  const radiusOf = (n: number) => Math.max(0.8, radius * Math.sqrt(n / largest));
  const names = clients.map(({ id }) => fitText(id, LABEL_WIDTH, FONT));
  const sums = clients.map(({ n }) => formatCount(n));
  const [below, above] = [rotated(names, column), rotated(sums, column)];
  const left = Math.max(...values.map(({ name }) => labelWidth(name)), textWidth("size of a dot", FONT - 1)) + 2 * GAP;
  const top = (isFile ? 58 : 8) + above.height + GAP;
  const [right, bottom] = [left + clients.length * column, top + values.length * ROW];
  const [x, y] = [(index: number) => left + (index + 0.5) * column, (index: number) => top + (index + 0.5) * ROW];
  const height = bottom + GAP + below.height + 52;
  const counts = Math.max(...values.map(({ n }) => textWidth(formatCount(n), FONT - 1)));
  const width = Math.max(right + counts + 2 * GAP, isFile ? 620 : 0);
  const ink = isFile
    ? { text: "#222", muted: "#666", dot: "#3f3796" }
    : { text: "var(--ink)", muted: "var(--muted)", dot: "var(--accent)" };
  const text = { fontSize: FONT, fill: ink.text };
  const muted = { fontSize: FONT - 1, fill: ink.muted };
  const rows = values.map((value, index) => ({ ...value, y: y(index) }));
  const columns = clients.map((_, index) => ({ x: x(index), name: names[index], sum: sums[index] }));
  return draw({
    ...inPixels(width, height),
    ...(isFile && { fileTitle: TITLE }),
    label: `${TITLE}: ${table.description}. One dot per client and value; its area is the number of examples.`,
    className: "chart",
    style: { fontFamily: isFile ? "system-ui, sans-serif" : "inherit", background: isFile ? "#fff" : "none" },
    marks: [
      ...(isFile ? heading(table.description, ink) : []),
      Plot.ruleY(rows, { y: "y", x1: left, x2: right, stroke: ink.muted, strokeOpacity: 0.18 }),
      Plot.dot(cells, {
        x: (cell: Cell) => x(cell.client),
        y: (cell: Cell) => y(cell.value),
        r: (cell: Cell) => radiusOf(cell.n),
        fill: ink.dot,
        fillOpacity: 0.85,
        title: (cell: Cell) => visibleLine(`${clients[cell.client]?.id}, ${values[cell.value]?.name}: ${plural(cell.n, "example")}`),
      }),
      Plot.text(rows, {
        x: left - GAP,
        y: "y",
        text: (row: { name: string }) => fitText(row.name, LABEL_WIDTH, FONT),
        textAnchor: "end",
        ...text,
      }),
      Plot.text(rows, { x: right + counts + GAP, y: "y", text: (row: { n: number }) => formatCount(row.n), textAnchor: "end", ...muted }),
      Plot.text(columns, { x: "x", y: bottom + GAP, text: "name", ...below.options("below"), ...text }),
      Plot.text(columns, { x: "x", y: top - GAP / 2, text: "sum", ...above.options("above"), ...muted }),
      Plot.text(["examples"], { x: left - GAP, y: top - GAP / 2, textAnchor: "end", lineAnchor: "bottom", ...muted }),
      ...sizes(largest, radiusOf, { left, y: height - 22, ink }),
    ],
  });
}

type Ink = { readonly text: string; readonly muted: string; readonly dot: string };

function labelWidth(name: string): number {
  return Math.min(LABEL_WIDTH, textWidth(name, FONT));
}

/** Labels along the columns: horizontal if each fits its column, else all rotated. */
export function rotated(labels: readonly string[], column: number) {
  const widest = Math.max(...labels.map((label) => textWidth(label, FONT)));
  const isLevel = widest <= column;
  return {
    height: isLevel ? FONT : widest * Math.sin(Math.PI / 3) + FONT,
    options: (side: "above" | "below"): Plot.TextOptions =>
      isLevel
        ? { lineAnchor: side === "below" ? "top" : "bottom" }
        : { rotate: -60, textAnchor: side === "below" ? "end" : "start", dy: side === "below" ? 4 : -2, dx: side === "below" ? 3 : 2 },
  };
}

function heading(description: string, { text, muted }: Ink): Plot.Markish[] {
  return [
    Plot.text([TITLE], { x: 16, y: 22, textAnchor: "start", fontSize: 16, fontWeight: 600, fill: text }),
    Plot.text([description], { x: 16, y: 44, textAnchor: "start", fontSize: FONT, fill: muted }),
  ];
}

/** A legend of dots for round numbers of examples, the first near the largest. */
function sizes(largest: number, radiusOf: (n: number) => number, { left, y, ink }: { left: number; y: number; ink: Ink }): Plot.Markish[] {
  const shown = [...new Set([largest, largest / 4, largest / 20].map(roundDown))].map((n, index) => ({ n, x: left + 10 + index * 120 }));
  return [
    Plot.text(["size of a dot"], { x: left - GAP, y, textAnchor: "end", fontSize: FONT - 1, fill: ink.muted }),
    Plot.dot(shown, { x: "x", y, r: ({ n }: { n: number }) => radiusOf(n), fill: ink.dot, fillOpacity: 0.85 }),
    Plot.text(shown, {
      x: ({ x }: { x: number }) => x + 16,
      y,
      text: ({ n }: { n: number }) => plural(n, "example"),
      textAnchor: "start",
      fontSize: FONT - 1,
      fill: ink.muted,
    }),
  ];
}

/** 1, 2 or 5 times a power of ten, not above the number; at least 1. */
function roundDown(n: number): number {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, n)));
  return [5, 2, 1].map((factor) => factor * power).find((candidate) => candidate <= n) ?? 1;
}
