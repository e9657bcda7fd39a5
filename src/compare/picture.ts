import * as Plot from "@observablehq/plot";
import { parseHTML } from "linkedom";
import type { ComparisonResult } from "./compare.ts";
import { measureOf, type Measure, outcomesAt } from "./table.ts";
import { spread } from "./statistics.ts";

interface Point {
  readonly method: string;
  readonly x: number;
  readonly y: number;
}

/** Rank–quality curves after the last round and rounds–quality curves, means over the seeds at equal rounds, as one SVG file. */
export function comparisonPicture(result: ComparisonResult): string {
  const measure = measureOf(result);
  const outcomes = outcomesAt(result, "rounds");
  const methods = [...new Set(outcomes.map(({ method }) => method))];
  const byRank = methods.flatMap((method) =>
    result.tiers.flatMap((r) => {
      const values = outcomes.flatMap((outcome) =>
        outcome.method === method ? outcome.byTier.filter((tier) => tier.r === r).map(measure.of) : [],
      );
      return point(method, r, values, measure);
    }),
  );
  const rounds = [...new Set(outcomes.flatMap((outcome) => outcome.rounds.map(({ round }) => round)))].toSorted(
    (one, other) => one - other,
  );
  const byRound = methods.flatMap((method) =>
    rounds.flatMap((round) => {
      const values = outcomes.flatMap((outcome) => {
        if (outcome.method !== method) return [];
        const tiers = outcome.rounds.find((entry) => entry.round === round)?.byTier ?? [];
        const known = tiers.map(measure.of).filter((value) => value !== null);
        return known.length > 0 && known.length === tiers.length ? [spread(known).mean] : [];
      });
      return point(method, round, values, measure);
    }),
  );
  const unit = measure.name === "accuracy" ? "accuracy, %" : "loss";
  const first = chart(byRank, methods, { type: "point", label: "rank of the adapter's prefix →", domain: result.tiers }, `↑ ${unit}`);
  const trained = byRound.filter(({ x }) => x > 0);
  const second = chart(
    trained,
    methods,
    { label: "server round →", ticks: rounds.filter((round) => round > 0), tickFormat: "d" },
    `↑ ${unit}, mean over the tiers`,
  );
  const legend = methods.map((method, place) => {
    const [x, y] = [16 + (place % 4) * 232, HEIGHT + 16 + 20 * Math.floor(place / 4)];
    const { color, dashes } = styleOf(place);
    const line = `<line x1="${x}" x2="${x + 22}" y1="${y - 4}" y2="${y - 4}" stroke="${color}" stroke-width="2.5" stroke-dasharray="${dashes}"/>`;
    return `${line}<text x="${x + 28}" y="${y}">${escape(method)}</text>`;
  });
  const height = HEIGHT + 24 + 20 * Math.ceil(methods.length / 4);
  const style = `font-family="system-ui, sans-serif" font-size="12" color="#222" fill="#222"`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${2 * WIDTH}" height="${height}" viewBox="0 0 ${2 * WIDTH} ${height}" ${style}>`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    first,
    `<g transform="translate(${WIDTH} 0)">${second}</g>`,
    ...legend,
    `</svg>\n`,
  ].join("\n");
}

const [WIDTH, HEIGHT] = [470, 330];
/** Tableau 10; a method beyond ten is dashed. */
const COLORS = ["#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#79706e"];

function styleOf(place: number): { readonly color: string; readonly dashes: string } {
  return { color: COLORS[place % COLORS.length] as string, dashes: place < COLORS.length ? "none" : "5 3" };
}

function point(method: string, x: number, values: readonly (number | null)[], { factor }: Measure): Point[] {
  const known = values.filter((value) => value !== null);
  return known.length > 0 && known.length === values.length ? [{ method, x, y: spread(known).mean * factor }] : [];
}

function chart(points: readonly Point[], methods: readonly string[], x: Plot.ScaleOptions, label: string): string {
  const { document } = parseHTML("<html><body></body></html>");
  const values = points.map(({ y }) => y);
  const drawn = Plot.plot({
    document,
    width: WIDTH,
    height: HEIGHT,
    marginLeft: 48,
    marginBottom: 40,
    marginTop: 28,
    style: { background: "none", overflow: "visible" },
    x,
    y: { label, grid: true, nice: true, domain: [Math.min(...values), Math.max(...values)] },
    marks: methods.flatMap((method, place) => {
      const line = points.filter((each) => each.method === method);
      const { color, dashes } = styleOf(place);
      return [
        Plot.lineY(line, { x: "x", y: "y", stroke: color, strokeWidth: 2, strokeDasharray: dashes }),
        Plot.dot(line, { x: "x", y: "y", fill: color, r: 2.5 }),
      ];
    }),
  });
  return drawn.outerHTML;
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
