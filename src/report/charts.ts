import * as Plot from "@observablehq/plot";
import { describeRange, hasInterval, isDrawn, measure, nearTo, type Point } from "./chart-data.ts";
import { drawFrame, endLabels, fitAxis, PLOT_WIDTH } from "./chart-frame.ts";
import { roundTicks, textWidth, whiskers } from "./drawing.ts";
import { formatCount, plural } from "./format.ts";
import { pickEvenly } from "./pick-evenly.ts";
import type { RecordedRun } from "../records/read-run.ts";

/** A chart as inline SVG, coloured by the page's CSS variables, the entries of its legend, and notes for its caption. */
export interface Chart {
  readonly svg: string;
  readonly legend: readonly { readonly name: string; readonly value: string; readonly color: string; readonly isDashed: boolean }[];
  readonly notes: readonly string[];
}

/** One line per tier over the rounds, starting before training; a band shows the interval of the whole adapter. */
export function qualityOverRounds(run: RecordedRun): Chart {
  const measured = measure(run);
  const { points, rounds, tiers } = measured;
  const last = Math.max(1, ...rounds.slice(-1));
  const lines = tiers.map((r, index) => ({ name: `r=${r}`, color: `var(--tier-${index})`, line: points.filter((point) => point.r === r) }));
  const whole = lines.at(-1);
  const band = whole?.line.filter(hasInterval) ?? [];
  const axis = fitAxis(measured, points, band);
  const svg = drawFrame(axis, {
    label: `Line chart: ${measured.quality.name} over the server rounds, one line per rank.`,
    x: { label: "server round →", domain: [0, last], ticks: [...roundTicks(last)], tickFormat: String },
    marks: [
      Plot.areaY(band, { x: "round", y1: "low", y2: "high", fill: whole?.color ?? "none", fillOpacity: 0.13 }),
      ...lines.flatMap(({ line, color }) => [
        Plot.lineY(line, { x: "round", y: "value", stroke: color, strokeWidth: 2 }),
        Plot.dot(line, { x: "round", y: "value", fill: color, r: rounds.length > 40 ? 1 : 2.5 }),
      ]),
      ...endLabels(lines, axis, 9),
    ],
  });
  const n = formatCount(band.at(-1)?.examples ?? 0);
  const notes = [
    band.length > 0
      ? `Band: 95 % interval of rank ${tiers.at(-1)}, from ${n} held-out examples. All ranks are evaluated on the same examples, so differences between ranks are more certain than the band suggests.`
      : "No interval is drawn: this run recorded none.",
    ...axis.notes,
    ...noteGaps(points),
  ];
  const legend = lines
    .toReversed()
    .map(({ line, color }) => ({ name: `rank ${line[0]?.r}`, value: line.at(-1)?.text ?? "", color, isDashed: false }));
  return { svg, legend, notes };
}

/** One line per round over the ranks: a few rounds, the last with its intervals; before training only if its values are near. */
export function qualityOverRank(run: RecordedRun): Chart {
  const measured = measure(run);
  const { quality, rounds, tiers } = measured;
  const trained = rounds.filter((round) => round > 0);
  const isNear = nearTo(measured.points.filter(({ round }) => round > 0));
  const before = measured.points.filter(({ round }) => round === 0);
  const showsBefore = trained.length === 0 || before.filter(isDrawn).every(({ value }) => isNear(value));
  const shown = pickEvenly(showsBefore ? rounds : trained, 4);
  const last = shown.at(-1);
  const lines = curvesOf(measured.points, shown);
  const final = lines.at(-1)?.line ?? [];
  const withIntervals = final.filter(hasInterval);
  const axis = fitAxis(
    measured,
    lines.flatMap(({ line }) => line),
    withIntervals,
  );
  const widest = final.reduce((most, { text }) => Math.max(most, textWidth(text, 13)), 1);
  const stride = Math.ceil((tiers.length * widest) / PLOT_WIDTH);
  const labelled = tiers.filter((_, index) => (tiers.length - 1 - index) % stride === 0);
  const side = quality.better === "higher" ? ("high" as const) : ("low" as const);
  const svg = drawFrame(axis, {
    label: `Line chart: ${quality.name} over the rank of the adapter's prefix, one line for each of a few rounds.`,
    x: {
      type: "point",
      label: "rank of the adapter's prefix →",
      domain: [...tiers],
      ticks: [...pickEvenly(tiers, 12)],
      tickFormat: String,
      padding: 0.4,
    },
    marks: [
      ...whiskers(withIntervals, { x: "r", low: "low", high: "high", stroke: "var(--accent)" }),
      ...lines.flatMap(curve),
      Plot.text(
        final.filter((point) => labelled.includes(point.r) && isDrawn(point)),
        {
          x: "r",
          y: (point: Point) => (hasInterval(point) ? point[side] : point.value),
          text: (point: Point) => point.text.replace(" %", ""),
          dy: quality.better === "higher" ? -10 : 12,
          fill: "var(--ink)",
          fontWeight: 600,
        },
      ),
      ...endLabels(lines, axis, 6),
    ],
  });
  const notes = [
    ...noteIntervals(withIntervals, last),
    ...(showsBefore ? [] : [`Before training: ${describeRange(before)}, outside this axis.`]),
    ...axis.notes,
    ...noteGaps(lines.flatMap(({ line }) => line)),
  ];
  const legend = lines
    .toReversed()
    .map(({ name, color, isDashed }) => ({ name: isDashed ? "before training" : name, value: "", color, isDashed }));
  return { svg, legend, notes };
}

/** One curve per round; later rounds have stronger colours. */
function curvesOf(points: readonly Point[], rounds: readonly number[]): readonly (Curve & { readonly name: string })[] {
  return rounds.map((round, index) => {
    const strength = Math.round(100 - (55 * (rounds.length - 1 - index)) / Math.max(1, rounds.length - 1));
    return {
      name: round === 0 ? "before" : `round ${round}`,
      color: round === 0 ? "var(--muted)" : `color-mix(in oklab, var(--accent) ${strength}%, var(--panel))`,
      isDashed: round === 0,
      isLast: index === rounds.length - 1,
      line: points.filter((point) => point.round === round),
    };
  });
}

/** A line of the chart, with a dot at each rank; that of the last round is the thickest. */
function curve({ line, color, isDashed, isLast }: Curve): readonly Plot.Markish[] {
  const stroke = { stroke: color, strokeWidth: isLast ? 2.5 : 1.5, ...(isDashed && { strokeDasharray: "4 3" }) };
  return [Plot.lineY(line, { x: "r", y: "value", ...stroke }), Plot.dot(line, { x: "r", y: "value", fill: color, r: isLast ? 3.5 : 2 })];
}

interface Curve {
  readonly line: readonly Point[];
  readonly color: string;
  readonly isDashed: boolean;
  readonly isLast: boolean;
}

/** Explains the whiskers of `round`. */
function noteIntervals([first]: readonly Point[], round: number | undefined): readonly string[] {
  if (!first) return [];
  const when = round === 0 ? "before training" : `after round ${round}`;
  return [`Whiskers: 95 % intervals ${when}, from ${formatCount(first.examples ?? 0)} held-out examples.`];
}

function noteGaps(points: readonly Point[]): readonly string[] {
  const gaps = points.filter((point) => !isDrawn(point)).length;
  return gaps === 0 ? [] : [`Not drawn: ${plural(gaps, "value")} that ${gaps === 1 ? "was" : "were"} not finite.`];
}
