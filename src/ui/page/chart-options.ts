import type { Options, Series } from "uplot";
import type uPlot from "./vendor/uplot.js";
import { drawMark, type Mark } from "./chart-mark.ts";
import { resolveColor, withAlpha } from "./colors.ts";

export interface Line {
  readonly name: string;
  /** CSS, which may name variables. */
  readonly color: string;
  readonly values: readonly (number | null)[];
  /** Ends of intervals: drawn as a band, or as whiskers. */
  readonly interval?: { readonly low: readonly (number | null)[]; readonly high: readonly (number | null)[] };
  readonly isFaint?: boolean;
  readonly isDashed?: boolean;
}

export interface ChartData {
  readonly x: readonly number[];
  readonly lines: readonly Line[];
  readonly mark?: Mark | undefined;
}

export interface ChartOptions {
  readonly title: string;
  /** What it shows, for those who cannot see it. */
  readonly label: string;
  readonly xName: string;
  /** Of the y axis, whose ticks have the unit. */
  readonly yName: () => string;
  readonly format: (value: number | null) => string;
  readonly formatX?: (x: number) => string;
  /** The values on the x axis that have a tick; chosen by the chart by default. */
  readonly ticks?: () => readonly number[];
  readonly intervals?: "band" | "whiskers";
  readonly isLog?: boolean;
  /** Distances between ticks to choose from; decimal by default. */
  readonly steps?: readonly number[];
  /** Null values are gaps unless lines have different x values. */
  readonly spansGaps?: boolean;
  readonly height?: number;
  readonly controls?: readonly Node[];
}

const FONT_FAMILY = 'system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';
const FONT = `12px ${FONT_FAMILY}`;

/** x, then each line, followed by the ends of its band. */
export function alignedData({ x, lines }: ChartData): uPlot.AlignedData {
  const columns = lines.flatMap(({ values, interval }) => (interval ? [values, interval.high, interval.low] : [values]));
  return [x, ...columns] as unknown as uPlot.AlignedData;
}

export interface Drawing {
  readonly width: number;
  readonly height: number;
  point(index: number | null | undefined): void;
  current(): ChartData;
}

export function plotOptions(options: ChartOptions, { lines }: ChartData, { width, height, point, current }: Drawing): Options {
  const { xName, yName, format, formatX = String, ticks, intervals = "band", isLog = false, steps, spansGaps = false } = options;
  const [ink, rule] = [resolveColor("var(--muted)"), resolveColor("var(--rule)")];
  const isDense = lines.length > 20 || current().x.length > 200;
  const series: Series[] = [{}];
  const bands: uPlot.Band[] = [];
  for (const { color, interval, isFaint, isDashed } of lines) {
    const stroke = resolveColor(color);
    series.push({
      stroke,
      width: isFaint === true ? 1 : isDense ? 1.25 : 2,
      spanGaps: spansGaps,
      ...(isDashed === true && { dash: [5, 4] }),
      points: { size: 5, fill: stroke, show: (self: uPlot) => self.data[0].length <= 40 },
    });
    if (!interval) continue;
    const at = series.length;
    for (let side = 0; side < 2; side++) series.push({ stroke: "transparent", width: 0, points: { show: false }, spanGaps: spansGaps });
    if (intervals === "band") bands.push({ series: [at, at + 1], fill: resolveColor(withAlpha(color, 14)) });
  }
  const axis = { stroke: ink, font: FONT, labelFont: FONT, labelSize: 18, ticks: { stroke: rule, size: 4 } };
  return {
    width,
    height,
    series,
    bands,
    legend: { show: false },
    cursor: { y: false, drag: { setScale: true }, points: { size: 7 } },
    scales: { x: { time: false, range: (self, low, high) => rangeOf(self, low, high, ticks ? 0.3 : 0) }, y: isLog ? { distr: 3 } : {} },
    axes: [
      {
        ...axis,
        label: xName,
        size: 30,
        grid: { show: false },
        values: (_self, splits) => splits.map((x) => (x % 1 === 0 ? formatX(x) : "")),
        ...(ticks ? { splits: () => [...ticks()] } : { incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000] }),
      },
      {
        ...axis,
        label: yName,
        size: (_self, labels) => widthOf(labels ?? []),
        grid: { stroke: rule, width: 1, ...(isLog && { filter: powersOfTen }) },
        ...(isLog && { filter: powersOfTen, ticks: { ...axis.ticks, filter: powersOfTen } }),
        ...(steps && { incrs: [...steps] }),
        values: (_self, splits) => splits.map((value) => (value === null ? "" : withoutZeros(format(value)))),
      },
    ],
    hooks: {
      setCursor: [(self) => point(self.cursor.idx)],
      draw: [
        (self) => {
          const data = current();
          if (intervals === "whiskers") drawWhiskers(self, data);
          if (data.mark) drawMark(self, data.mark, `${12 * devicePixelRatio}px ${FONT_FAMILY}`);
        },
      ],
    },
  };
}

/** With room at both ends; around a single value, and where there is none yet. */
function rangeOf({ data: [x] }: uPlot, low: number | null, high: number | null, room: number): [low: number, high: number] {
  if (low === null || high === null) return [0, 1];
  const [only] = x;
  return x.length === 1 && only !== undefined ? [only - 1, only + 1] : [low - room, high + room];
}

/** Room for the longest label, of characters that are at most this wide. */
function widthOf(labels: readonly string[]): number {
  return Math.max(58, 16 + 7 * labels.reduce((most, { length }) => Math.max(most, length), 0));
}

/** A logarithmic axis has lines at powers of ten only, or at all ticks if it is short. */
function powersOfTen(_self: uPlot, splits: (number | null)[]): (number | null)[] {
  const isPower = (value: number | null) => value !== null && Number.isInteger(Math.round(Math.log10(value) * 1e6) / 1e6);
  return splits.filter(isPower).length > 1 ? splits.map((value) => (isPower(value) ? value : null)) : splits;
}

/** `20.0 %` as `20 %`. */
function withoutZeros(text: string): string {
  return text.replace(/(\.\d*?)0+(?=$| )/, "$1").replace(/\.(?=$| )/, "");
}

function drawWhiskers(self: uPlot, { x, lines }: ChartData): void {
  const { ctx } = self;
  const cap = 4 * devicePixelRatio;
  for (const { color, interval } of lines) {
    if (!interval) continue;
    ctx.strokeStyle = resolveColor(color);
    ctx.lineWidth = 1.5 * devicePixelRatio;
    ctx.beginPath();
    for (const [index, at] of x.entries()) {
      const [low, high] = [interval.low[index], interval.high[index]];
      if (low === null || low === undefined || high === null || high === undefined) continue;
      const left = self.valToPos(at, "x", true);
      for (const end of [low, high]) {
        ctx.moveTo(left - cap, self.valToPos(end, "y", true));
        ctx.lineTo(left + cap, self.valToPos(end, "y", true));
      }
      ctx.moveTo(left, self.valToPos(low, "y", true));
      ctx.lineTo(left, self.valToPos(high, "y", true));
    }
    ctx.stroke();
  }
}
