import * as Plot from "@observablehq/plot";
import { parseHTML } from "linkedom";
import { evaluatedRounds, majorityShare, qualityAt, qualityOf, type Quality } from "./quality.ts";
import type { RecordedRun } from "./read-run.ts";

/** A picture as inline SVG, coloured by the page's CSS variables, and the entries of its legend. */
export interface Chart {
  readonly svg: string;
  readonly legend: readonly { readonly name: string; readonly value: string; readonly color: string; readonly isDashed: boolean }[];
}

interface Point {
  readonly round: number;
  readonly r: number;
  readonly value: number;
}

/** One line per tier over the rounds. */
export function qualityOverRounds(run: RecordedRun): Chart {
  const { quality, points, rounds, tiers } = measure(run);
  const colorOf = (r: number) => `var(--tier-${tiers.indexOf(r)})`;
  const svg = draw(run, quality, points, {
    x: { label: "server round →", domain: [0, Math.max(1, ...rounds)], ticks: wholeTicks(Math.max(1, ...rounds)), tickFormat: String },
    marks: tiers.map((r) => {
      const line = points.filter((point) => point.r === r);
      return [
        Plot.lineY(line, { x: "round", y: "value", stroke: colorOf(r), strokeWidth: 2 }),
        Plot.dot(line, { x: "round", y: "value", fill: colorOf(r), r: 2.5 }),
      ];
    }),
  });
  const last = rounds.at(-1);
  const valueAt = (r: number) => quality.format(points.find((point) => point.r === r && point.round === last)?.value ?? null);
  return { svg, legend: tiers.toReversed().map((r) => ({ name: `rank ${r}`, value: valueAt(r), color: colorOf(r), isDashed: false })) };
}

/** One line per round over the ranks: before training, some on the way, and the last. */
export function qualityOverRank(run: RecordedRun): Chart {
  const { quality, points, rounds, tiers } = measure(run);
  const shown = spread(rounds, 4);
  const last = shown.at(-1);
  const strength = (round: number) => Math.round(25 + (75 * shown.indexOf(round)) / Math.max(1, shown.length - 1));
  const colorOf = (round: number) =>
    round === 0 ? "var(--muted)" : `color-mix(in oklab, var(--accent) ${strength(round)}%, var(--panel))`;
  const svg = draw(run, quality, points, {
    x: { type: "point", label: "rank of the adapter's prefix →", domain: tiers, tickFormat: String, padding: 0.3 },
    marks: [
      ...shown.map((round) => {
        const line = points.filter((point) => point.round === round);
        const dashes = round === 0 ? { strokeDasharray: "4 3" } : {};
        return [
          Plot.lineY(line, { x: "r", y: "value", stroke: colorOf(round), strokeWidth: round === last ? 2.5 : 1.5, ...dashes }),
          Plot.dot(line, { x: "r", y: "value", fill: colorOf(round), r: round === last ? 3.5 : 2 }),
        ];
      }),
      Plot.text(
        points.filter((point) => point.round === last),
        {
          x: "r",
          y: "value",
          text: (point: Point) => quality.format(point.value),
          dy: quality.better === "higher" ? -12 : 13,
          fill: "var(--ink)",
          fontWeight: 600,
        },
      ),
    ],
  });
  const name = (round: number) => (round === 0 ? "before training" : `round ${round}`);
  return {
    svg,
    legend: shown.toReversed().map((round) => ({ name: name(round), value: "", color: colorOf(round), isDashed: round === 0 })),
  };
}

function measure({ record, rounds }: RecordedRun) {
  const quality = qualityOf(rounds);
  const evaluated = evaluatedRounds(rounds);
  const { tiers } = record.layout;
  const points = evaluated.flatMap((round) =>
    tiers.flatMap((r): Point[] => {
      const value = qualityAt(quality, round, r);
      return value === null ? [] : [{ round: round.round, r, value }];
    }),
  );
  return { quality, points, rounds: evaluated.map(({ round }) => round), tiers };
}

/** The frame that both pictures share: size, type, the axis of quality, the majority class. */
function draw(
  { record }: RecordedRun,
  quality: Quality,
  points: readonly Point[],
  { x, marks }: { x: Plot.ScaleOptions; marks: Plot.Markish[] },
): string {
  const { document } = parseHTML("<html><body></body></html>");
  const isAccuracy = quality.name === "accuracy";
  const baseline = isAccuracy ? majorityShare(record) : undefined;
  const values = [...points.map(({ value }) => value), ...(baseline === undefined ? [] : [baseline])];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const y: Plot.ScaleOptions = isAccuracy
    ? { domain: [0, Math.min(100, high * 112)], label: "↑ accuracy on held-out examples, %", percent: true }
    : {
        type: high > 10 * low ? "log" : "linear",
        domain: [low * 0.85, high * 1.05],
        label: `↑ ${quality.name} on held-out examples (lower is better)`,
      };
  const chart = Plot.plot({
    document,
    className: "chart",
    width: 480,
    height: 310,
    marginLeft: 40,
    marginRight: 16,
    marginTop: 34,
    marginBottom: 42,
    style: { fontFamily: "inherit", fontSize: "12px", background: "none", overflow: "visible" },
    x,
    y: { ...y, ticks: 5, grid: true, nice: true },
    marks: [
      ...(baseline === undefined
        ? []
        : [
            Plot.ruleY([baseline], { stroke: "var(--muted)", strokeDasharray: "2 3" }),
            Plot.text([baseline], {
              y: (value: number) => value,
              frameAnchor: "right",
              text: () => "always the commonest label",
              dy: 9,
              fill: "var(--muted)",
            }),
          ]),
      ...marks,
    ],
  });
  return chart.outerHTML;
}

/** At most `count` of the rounds: the first, the last, and evenly between. */
function spread(rounds: readonly number[], count: number): readonly number[] {
  if (rounds.length <= count) return rounds;
  return Array.from({ length: count }, (_, place) => rounds[Math.round((place * (rounds.length - 1)) / (count - 1))] ?? 0);
}

function wholeTicks(largest: number): readonly number[] {
  const step = Math.ceil(largest / 10);
  return Array.from({ length: Math.floor(largest / step) + 1 }, (_, place) => place * step);
}
