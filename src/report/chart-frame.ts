import * as Plot from "@observablehq/plot";
import { isDrawn, type Measured, nearTo, type Point } from "./chart-data.ts";
import { draw, fitScale, spreadApart } from "./drawing.ts";

export interface Line {
  /** Drawn at the end of the line, which can so be identified without its colour. */
  readonly name: string;
  readonly color: string;
  readonly line: readonly Point[];
}

export interface Axis {
  readonly y: Plot.ScaleOptions;
  /** Share of the most common label, in the unit of the axis; undefined if it is too far away. */
  readonly baseline: number | undefined;
  readonly notes: readonly string[];
}

/** Fits the lines, their intervals and, if it is near, the share of the most common label. */
export function fitAxis({ quality, factor, baseline }: Measured, lines: readonly Point[], intervals: readonly Point[]): Axis {
  const values = [...lines.map(({ value }) => value), ...intervals.flatMap(({ low, high }) => [low, high])].filter(Number.isFinite);
  if (!quality.isShare) {
    const label = `↑ ${quality.name} on held-out examples (lower is better)`;
    return { y: { ...fitScale(values), label }, baseline: undefined, notes: [] };
  }
  const level = baseline === undefined ? undefined : baseline * factor;
  const isShown = level !== undefined && nearTo(lines)(level);
  const scale = fitScale(isShown ? [...values, level] : values, { least: 0, most: 100 });
  const note = `Majority: the most common label’s share of the training examples, ${quality.format(baseline ?? null)}${isShown ? "" : ", outside this axis"}.`;
  return {
    y: { ...scale, label: `↑ ${quality.name} on held-out examples, %` },
    baseline: isShown ? level : undefined,
    notes: level === undefined ? [] : [note],
  };
}

const FRAME = { width: 440, height: 300, marginLeft: 48, marginRight: 78, marginTop: 38, marginBottom: 42, insetTop: 2, insetBottom: 14 };

/** Pixels from the left end of the x axis to its right end. */
export const PLOT_WIDTH = FRAME.width - FRAME.marginLeft - FRAME.marginRight;

/** The frame that both charts share: size, font, the axis of quality, the share of the most common label. */
export function drawFrame(axis: Axis, { label, x, marks }: { label: string; x: Plot.ScaleOptions; marks: Plot.Markish[] }): string {
  return draw({
    ...FRAME,
    label,
    className: "chart",
    style: { fontFamily: "inherit", fontSize: "12px", background: "none", overflow: "visible" },
    x,
    y: axis.y,
    marks: [Plot.ruleY(axis.baseline === undefined ? [] : [axis.baseline], { stroke: "var(--muted)", strokeDasharray: "2 3" }), ...marks],
  });
}

/** The name of every line at its end, moved apart where ends are close together. None if there are too many to read. */
export function endLabels(lines: readonly Line[], { y, baseline }: Axis, dx: number): Plot.Markish[] {
  const ends = [
    ...lines.flatMap(({ name, color, line }) =>
      line
        .slice(-1)
        .filter(isDrawn)
        .map(({ value }) => ({ name, color, value })),
    ),
    ...(baseline === undefined ? [] : [{ name: "majority", color: "var(--muted)", value: baseline }]),
  ];
  const [least, most] = [FRAME.marginTop, FRAME.height - FRAME.marginBottom];
  if (ends.length * LABEL_GAP > most - least) return [];
  const scale = Plot.scale({ y: { ...y, range: [most - FRAME.insetBottom, least + FRAME.insetTop] } });
  const heights = spreadApart(
    ends.map(({ value }) => scale.apply(value) as number),
    LABEL_GAP,
    [least, most],
  );
  return ends.map(({ name, color }, index) =>
    Plot.text([name], {
      frameAnchor: "right",
      y: () => scale.invert?.(heights[index]) as number,
      text: () => name,
      textAnchor: "start",
      dx,
      fill: `color-mix(in oklab, ${color} 55%, var(--ink))`,
    }),
  );
}

const LABEL_GAP = 13;
