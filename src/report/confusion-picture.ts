import * as Plot from "@observablehq/plot";
import type { Confusion } from "../records/metrics.ts";
import { examplesByLabel, labelName } from "./confusion.ts";
import { draw, fitText, inPixels, textWidth } from "./drawing.ts";
import { formatPercent, plural } from "./format.ts";
import { rotated } from "./partition.ts";
import { visibleLine } from "./visible.ts";

const [FONT, CELL, GAP, LABEL_WIDTH] = [12, 26, 10, 150];
/** More labels are not readable. */
const MOST_LABELS = 40;

interface Square {
  readonly x: number;
  readonly y: number;
  readonly share: number;
  readonly text: string;
  readonly title: string;
}

/**
 * A confusion matrix: a row for each true label, a column for each predicted one, in the order of the labels. The shade is the
 * share of the row, the number the examples. In the colours of a report. Undefined with too many labels.
 */
export function confusionPicture({ r, cells }: Confusion, labels: readonly string[]): string | undefined {
  const seen = [...new Set(cells.flatMap(([actual, predicted]) => [actual, predicted]))].toSorted((a, b) => a - b);
  if (seen.length > MOST_LABELS) return undefined;
  const places = new Map(seen.map((label, place) => [label, place]));
  const names = seen.map((label) => fitText(labelName(labels, label), LABEL_WIDTH, FONT));
  const above = rotated(names, CELL);
  const left = Math.max(...names.map((name) => textWidth(name, FONT))) + 2 * GAP;
  const top = above.height + 2 * GAP;
  const [right, bottom] = [left + seen.length * CELL, top + seen.length * CELL];
  const at = (label: number) => (places.get(label) as number) * CELL;
  const totals = examplesByLabel(cells);
  const squares = cells.map(([actual, predicted, examples]): Square => {
    const share = examples / (totals.get(actual) as number);
    const pair = `${labelName(labels, actual)} taken for ${labelName(labels, predicted)}`;
    const title = visibleLine(`${pair}: ${plural(examples, "example")}, ${formatPercent(share)}`);
    return { x: left + at(predicted), y: top + at(actual), share, text: examples < 1000 ? String(examples) : "…", title };
  });
  const heads = names.map((name, place) => ({ name, x: left + (place + 0.5) * CELL, y: top + (place + 0.5) * CELL }));
  const number = (isStrong: boolean) =>
    Plot.text(
      squares.filter(({ share }) => share > 0.65 === isStrong),
      {
        x: (square: Square) => square.x + CELL / 2,
        y: (square: Square) => square.y + CELL / 2,
        text: "text",
        fontSize: FONT - 2,
        fill: isStrong ? "var(--panel)" : "var(--ink)",
        pointerEvents: "none",
      },
    );
  return draw({
    ...inPixels(right + (above.height > FONT ? above.height / 2 : 0) + GAP, bottom + GAP),
    opacity: { type: "identity" },
    label: `Confusion matrix at rank ${r}: a row for each true label, a column for each predicted one.`,
    className: "chart",
    style: { fontFamily: "inherit", background: "none" },
    marks: [
      Plot.rect([0], { x1: left, x2: right, y1: top, y2: bottom, fill: "none", stroke: "var(--rule)" }),
      Plot.rect(squares, {
        x1: (square: Square) => square.x + 0.5,
        x2: (square: Square) => square.x + CELL - 0.5,
        y1: (square: Square) => square.y + 0.5,
        y2: (square: Square) => square.y + CELL - 0.5,
        fill: "var(--accent)",
        fillOpacity: (square: Square) => 0.06 + 0.94 * square.share,
        title: "title",
      }),
      number(true),
      number(false),
      Plot.text(heads, { x: left - GAP, y: "y", text: "name", textAnchor: "end", fontSize: FONT, fill: "var(--ink)" }),
      Plot.text(heads, { x: "x", y: top - GAP / 2, text: "name", fontSize: FONT, fill: "var(--ink)", ...above.options("above") }),
    ],
  });
}
