import * as Plot from "@observablehq/plot";
import { draw, extent, fitScale, fitText, inPixels, roundTicks, textWidth, whiskers } from "../report/drawing.ts";
import { plural } from "../report/format.ts";
import type { ComparisonResult } from "./compare.ts";
import { type Curve, curvesOf, type CurvePoint } from "./curves.ts";
import { type Measure, measureOf } from "./table.ts";

/**
 * Quality by rank after the last round, and quality by round from before training, at equal rounds: means over the seeds with
 * standard deviations, as one SVG file.
 */
export function comparisonPicture(result: ComparisonResult): string {
  const measure = measureOf(result);
  const curves = curvesOf(result);
  const rounds = [...new Set(curves.flatMap(({ byRound }) => byRound.map(({ x }) => x)))].toSorted((a, b) => a - b);
  const last = rounds.at(-1) ?? 0;
  const legend = layOutLegend(result, curves);
  const captions = describe(result, curves);
  const height = LEGEND_TOP + legend.height + captions.length * LINE + 12;
  const subtitle = `${measure.name} on held-out examples, mean over ${plural(result.seeds.length, "seed")}, at equal rounds`;
  const captionTop = LEGEND_TOP + legend.height + 4;
  return draw({
    ...inPixels(2 * WIDTH, height),
    fileTitle: result.name,
    label: `${result.name}: ${subtitle}. Two line charts, a line for each method: over the rank, and over the rounds.`,
    className: "sheet",
    style: { background: "#fff", color: "#222", fontFamily: FONT_FAMILY },
    marks: [
      text([result.name], 16, 24, { fontSize: 16, fontWeight: 600 }),
      text([subtitle], 16, 44, { fill: MUTED }),
      ...(curves.length === 0
        ? [text(["No run has finished."], 16, 90)]
        : [
            text([`after round ${last}, by rank`], 16, PANEL_TOP - 10, { fontWeight: 600 }),
            text(["by round, mean over the tiers"], WIDTH + 16, PANEL_TOP - 10, { fontWeight: 600 }),
            placed(byRankPanel(result, curves, measure), INDENT),
            placed(byRoundPanel(rounds, curves, measure), WIDTH + INDENT),
          ]),
      ...legend.marks,
      ...captions.map((line, index) => text([line], 16, captionTop + index * LINE, { fill: MUTED })),
    ],
  });
}

const [WIDTH, PANEL_HEIGHT, PANEL_TOP, LINE] = [480, 330, 84, 20];
const LEGEND_TOP = PANEL_TOP + PANEL_HEIGHT + 22;
const MARGIN = { marginLeft: 56, marginRight: 20, marginTop: 30, marginBottom: 44 };
const INDENT = 12;
const PLOT_WIDTH = WIDTH - INDENT - MARGIN.marginLeft - MARGIN.marginRight;
const FONT_FAMILY = "system-ui, sans-serif";
const MUTED = "#666";

/** Tableau 10, and symbols that tell methods apart without colour; methods after the tenth are dashed. */
const COLORS = ["#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#79706e"];
const SYMBOLS = ["circle", "square", "triangle", "diamond", "star", "cross", "wye"] as const;

function styleOf(index: number) {
  return {
    stroke: COLORS[index % COLORS.length] as string,
    symbol: SYMBOLS[index % SYMBOLS.length] as Plot.SymbolType,
    strokeDasharray: index < COLORS.length ? "none" : "5 3",
  };
}

function byRankPanel({ tiers }: ComparisonResult, curves: readonly Curve[], measure: Measure): Plot.PlotOptions {
  const x: Plot.ScaleOptions = { type: "point", label: "rank of the adapter's prefix →", domain: [...tiers], tickFormat: String };
  const step = PLOT_WIDTH / Math.max(1, tiers.length);
  return panel(
    curves.map(({ byRank }) => byRank),
    x,
    step,
    measure,
  );
}

function byRoundPanel(rounds: readonly number[], curves: readonly Curve[], measure: Measure): Plot.PlotOptions {
  const last = Math.max(1, rounds.at(-1) ?? 1);
  const ticks = rounds.length <= 11 ? rounds : roundTicks(last);
  const x: Plot.ScaleOptions = { label: "server round →", domain: [0, last], ticks: [...ticks], tickFormat: "d" };
  return panel(
    curves.map(({ byRound }) => byRound),
    x,
    PLOT_WIDTH / Math.max(1, rounds.length - 1),
    measure,
  );
}

/** Methods are shifted by a few pixels, within `step`, so that one's bars do not hide another's. */
function panel(curves: readonly (readonly CurvePoint[])[], x: Plot.ScaleOptions, step: number, measure: Measure): Plot.PlotOptions {
  const shift = Math.min(x.type === "point" ? 4 : 2, (0.6 * step) / Math.max(1, curves.length));
  const inset = (shift * curves.length) / 2 + 4;
  const values = curves.flatMap((points) => points.flatMap(({ y, low, high }) => [y, low, high])).filter(Number.isFinite);
  const [low, high] = extent(values) ?? [0, 0];
  const bounds = { least: Math.min(0, low), most: Math.max(100, high) };
  return {
    width: WIDTH - INDENT,
    height: PANEL_HEIGHT,
    ...MARGIN,
    className: "panel",
    // By Plot's own style, a nested picture would take its size from the page.
    style: { background: "none", overflow: "visible", fontSize: "12px", height: `${PANEL_HEIGHT}px`, maxWidth: "none" },
    x: { ...x, ...(x.type === "point" ? { padding: 0.5 } : { insetLeft: inset, insetRight: inset }) },
    y: { ...fitScale(values, measure.name === "accuracy" ? bounds : undefined), label: `↑ ${measure.label}` },
    marks: curves.flatMap((points, index) => {
      const dx = (index - (curves.length - 1) / 2) * shift;
      const { stroke, strokeDasharray, symbol } = styleOf(index);
      return [
        ...whiskers(
          points.filter(({ low }) => Number.isFinite(low)),
          { x: "x", low: "low", high: "high", dx, stroke },
        ),
        Plot.lineY(points, { x: "x", y: "y", dx, stroke, strokeWidth: 1.8, strokeDasharray }),
        Plot.dot(points, { x: "x", y: "y", dx, fill: stroke, symbol, r: 3 }),
      ];
    }),
  };
}

function placed(options: Plot.PlotOptions, x: number): Plot.Markish {
  return (_index, _scales, _values, _dimensions, { document }) => {
    const drawn = Plot.plot({ ...options, document });
    drawn.setAttribute("x", String(x));
    drawn.setAttribute("y", String(PANEL_TOP));
    return drawn;
  };
}

function layOutLegend({ seeds }: ComparisonResult, curves: readonly Curve[]): { readonly height: number; readonly marks: Plot.Markish[] } {
  const nameWidth = 2 * WIDTH - 80;
  const names = curves.map((curve) => {
    const few = curve.seeds < seeds.length ? ` (${curve.seeds} of ${seeds.length} seeds)` : "";
    return `${fitText(curve.method, nameWidth - textWidth(few, 12), 12)}${few}`;
  });
  const widest = Math.max(0, ...names.map((name) => textWidth(name, 12)));
  const columns = Math.max(1, Math.floor((2 * WIDTH - 16) / (widest + 56)));
  const width = (2 * WIDTH - 16) / columns;
  const marks = names.flatMap((name, index) => {
    const { stroke, strokeDasharray, symbol } = styleOf(index);
    const [x, y] = [16 + (index % columns) * width, LEGEND_TOP + LINE * Math.floor(index / columns)];
    return [
      Plot.ruleY([y], { y, x1: x, x2: x + 28, stroke, strokeWidth: 2, strokeDasharray }),
      Plot.dot([[x + 14, y] as const], { fill: stroke, symbol, r: 3 }),
      text([name], x + 36, y),
    ];
  });
  return { height: LINE * Math.ceil(names.length / columns), marks };
}

function describe({ seeds }: ComparisonResult, curves: readonly Curve[]): readonly string[] {
  const hasBars = curves.some((curve) => curve.seeds > 1);
  const gaps = curves.filter(({ byRank, byRound }) => [...byRank, ...byRound].some(({ y }) => Number.isNaN(y)));
  return [
    ...(hasBars
      ? [`Bars: one standard deviation over the seeds to each side; none where there is one seed. Seeds: ${seeds.join(", ")}.`]
      : []),
    ...(hasBars
      ? ["Methods share their seeds: whether two differ is told by the paired intervals in compare.md, not by overlapping bars."]
      : []),
    ...(curves.length > 0 && !hasBars ? ["One seed for each method: there are no error bars."] : []),
    ...gaps.map(({ method }) => `${method}: not drawn where a seed's value was not finite.`),
  ].map((line) => fitText(line, 2 * WIDTH - 32, 12));
}

function text(lines: readonly string[], x: number, y: number, options: Plot.TextOptions = {}): Plot.Markish {
  return Plot.text(lines, { x, y, fontSize: 12, fill: "#222", textAnchor: "start", ...options });
}
