import * as Plot from "@observablehq/plot";
import { isDrawn, type Measured, nearTo, type Point } from "./chart-data.ts";
import { draw, fitScale, spreadApart } from "./drawing.ts";

export interface Line {
  /** At the end of the line: it is told from the others without its colour. */
  readonly name: string;
  readonly color: string;
  readonly line: readonly Point[];
}

export interface Axis {
  readonly y: Plot.ScaleOptions;
  /** Share of the commonest label, in the axis's unit; undefined where it lies too far away. */
  readonly baseline: number | undefined;
  readonly notes: readonly string[];
}

/** Fits the lines and their intervals, and the commonest label's share where it lies near. */
export function fitAxis({ quality, factor, baseline }: Measured, lines: readonly Point[], intervals: readonly Point[]): Axis {
  const values = [...lines.map(({ value }) => value), ...intervals.flatMap(({ low, high }) => [low, high])].filter(Number.isFinite);
  if (quality.name !== "accuracy") {
    const label = `↑ ${quality.name} on held-out examples (lower is better)`;
    return { y: { ...fitScale(values), label }, baseline: undefined, notes: [] };
  }
  const level = baseline === undefined ? undefined : baseline * factor;
  const isShown = level !== undefined && nearTo(lines)(level);
  const scale = fitScale(isShown ? [...values, level] : values, { least: 0, most: 100 });
  const told = `Always answering the commonest label: ${quality.format(baseline ?? null)}, outside this axis.`;
  return {
    y: { ...scale, label: "↑ accuracy on held-out examples, %" },
    baseline: isShown ? level : undefined,
    notes: level === undefined || isShown ? [] : [told],
  };
}

/** Text stays readable where it crosses a line. */
export const HALO = { stroke: "var(--panel)", strokeWidth: 4 } as const;

const FRAME = { width: 420, height: 290, marginLeft: 48, marginRight: 58, marginTop: 30, marginBottom: 42 };

/** The frame that both pictures share: size, type, the axis of quality, the commonest label's share. */
export function drawFrame(axis: Axis, { label, x, marks }: { label: string; x: Plot.ScaleOptions; marks: Plot.Markish[] }): string {
  const level = axis.baseline === undefined ? [] : [axis.baseline];
  return draw({
    ...FRAME,
    label,
    className: "chart",
    style: { fontFamily: "inherit", fontSize: "12px", background: "none", overflow: "visible" },
    x,
    y: axis.y,
    marks: [
      Plot.ruleY(level, { stroke: "var(--muted)", strokeDasharray: "2 3" }),
      ...marks,
      Plot.text(level, {
        y: (value: number) => value,
        frameAnchor: "right",
        text: () => "always the commonest label",
        dy: 9,
        fill: "var(--muted)",
        ...HALO,
      }),
    ],
  });
}

/** The name of every line where it ends, moved apart where ends lie close together. None where there are too many to be read. */
export function endLabels(lines: readonly Line[], { y }: Axis, x: (point: Point) => number): Plot.Markish[] {
  const ended = lines.flatMap(({ line, ...more }) =>
    line
      .slice(-1)
      .filter(isDrawn)
      .map((point) => ({ ...more, point })),
  );
  const [least, most] = [FRAME.marginTop, FRAME.height - FRAME.marginBottom];
  if (ended.length * LABEL_GAP > most - least) return [];
  const scale = Plot.scale({ y: { ...y, range: [most, least] } });
  const places = spreadApart(
    ended.map(({ point }) => scale.apply(point.value) as number),
    LABEL_GAP,
    [least, most],
  );
  return ended.map(({ name, color, point }, index) =>
    Plot.text([point], {
      x,
      y: () => scale.invert?.(places[index]) as number,
      text: () => name,
      textAnchor: "start",
      dx: 9,
      fill: `color-mix(in oklab, ${color} 55%, var(--ink))`,
    }),
  );
}

const LABEL_GAP = 13;
