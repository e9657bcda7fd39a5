import { describeBest } from "../../report/best-words.ts";
import { formatCount } from "../../report/format.ts";
import type { MeasureName, RoundRow, RunDetail } from "../messages.ts";
import type { Line } from "./chart-options.ts";
import { tierColor } from "./colors.ts";
import { choice, h, setText } from "./dom.ts";
import type { Figure } from "./figure.ts";
import { LineChart } from "./line-chart.ts";
import { formatQuality, isShare } from "./words.ts";

const evaluated = (rows: readonly RoundRow[]) => rows.filter(({ quality }) => quality.length > 0);
const column = (values: readonly (number | null | undefined)[]) => values.map((value) => value ?? null);

/** The measure of the last evaluated round. */
function measureOf(rows: readonly RoundRow[]): MeasureName {
  return evaluated(rows).at(-1)?.measure ?? "loss";
}

/** One line per tier, with the interval of a chosen one. */
export function qualityOverRounds(tiers: readonly number[]): Figure {
  let shown = String(tiers.at(-1));
  let measure: MeasureName = "loss";
  let last: readonly [readonly RoundRow[], RunDetail] | undefined;
  const options = [
    ...tiers.map((r) => ({ value: String(r), text: `rank ${r}` })),
    { value: "all", text: "all ranks" },
    { value: "", text: "none" },
  ];
  const picker = choice("Interval of", options, shown, (value) => {
    shown = value;
    if (last) update(...last);
  });
  const chart = new LineChart({
    title: "Quality over rounds",
    label: "Line chart: quality over the server rounds, one line per rank. The table has the same figures.",
    xName: "round",
    yName: () => measure,
    format: (value) => formatQuality(measure, value),
    controls: [picker],
    height: 300,
  });
  function update(rows: readonly RoundRow[], detail: RunDetail): void {
    last = [rows, detail];
    measure = measureOf(rows);
    const rounds = evaluated(rows);
    const lines = tiers.map((r, index): Line => {
      const estimates = rounds.map((row) => row.quality[row.tiers.indexOf(r)]);
      const interval = {
        low: column(estimates.map((estimate) => estimate?.[1])),
        high: column(estimates.map((estimate) => estimate?.[2])),
      };
      const hasInterval = (shown === "all" || shown === String(r)) && interval.low.some((value) => value !== null);
      return {
        name: `rank ${r}`,
        color: tierColor(index, tiers.length),
        values: column(estimates.map((estimate) => estimate?.[0])),
        ...(hasInterval && { interval }),
      };
    });
    const examples = rounds.at(-1)?.examples ?? 0;
    const better = isShare(measure) ? measure : `${measure}, lower is better`;
    const band = `; band: 95 % interval from ${formatCount(examples)} held-out examples, which are the same for all ranks.`;
    const note = rounds.some(hasIntervals) ? `${better}${band}` : `${better}. This run recorded no intervals.`;
    const { best } = detail;
    const mark = best ? { x: best.round, name: "best" } : undefined;
    const ofMark = best ? ` Dashed line: the best, ${describeBest(best)}.` : "";
    chart.update({ x: rounds.map(({ round }) => round), lines: lines.toReversed(), mark }, `${note}${ofMark}`);
  }
  return { root: chart.root, update, close: () => chart.close() };
}

/** Quality over rank: the chosen round with its intervals, before some earlier ones. */
export function qualityOverRank(tiers: readonly number[]): Figure {
  let [measure, chosen]: [MeasureName, number | undefined] = ["loss", undefined];
  let rounds: readonly RoundRow[] = [];
  const slider = h("input", { type: "range", min: 0, max: 0, value: 0, "aria-label": "Round of the rank–quality curve", input: move });
  const shown = h("output", { class: "slider-value" });
  const chart = new LineChart({
    title: "Quality over rank",
    label:
      "Line chart: quality over the rank of the adapter's prefix, for the chosen round and some others. The table has the same figures.",
    xName: "rank",
    yName: () => measure,
    format: (value) => formatQuality(measure, value),
    formatX: (index) => String(tiers[index] ?? ""),
    ticks: () => tiers.map((_, index) => index),
    intervals: "whiskers",
    controls: [h("label", { class: "choice" }, h("span", {}, "Round"), slider, shown)],
    height: 300,
  });
  function move(): void {
    const index = Number(slider.value);
    // At its end it stays with the latest round.
    chosen = index === rounds.length - 1 ? undefined : index;
    draw();
  }
  function draw(): void {
    const index = chosen ?? rounds.length - 1;
    const row = rounds[index];
    if (!row) return;
    slider.max = String(rounds.length - 1);
    slider.value = String(index);
    slider.setAttribute("aria-valuetext", `round ${row.round}`);
    setText(shown, String(row.round));
    const others = [...new Set([0, Math.floor((rounds.length - 1) / 3), Math.floor((2 * (rounds.length - 1)) / 3), rounds.length - 1])];
    const faint = others.flatMap((other) => (other === index || !rounds[other] ? [] : [curve(rounds[other], tiers, true)]));
    const note = hasIntervals(row) ? `Whiskers: 95 % interval from ${formatCount(row.examples)} held-out examples.` : "";
    chart.update({ x: tiers.map((_, tier) => tier), lines: [curve(row, tiers, false), ...faint] }, note);
  }
  return {
    root: chart.root,
    update(rows) {
      measure = measureOf(rows);
      rounds = evaluated(rows);
      draw();
    },
    close: () => chart.close(),
  };
}

/** Earlier versions recorded none. */
function hasIntervals({ quality }: RoundRow): boolean {
  return quality.some(([, low]) => low !== null);
}

function curve(row: RoundRow, tiers: readonly number[], isFaint: boolean): Line {
  const estimates = tiers.map((r) => row.quality[row.tiers.indexOf(r)]);
  const interval = { low: column(estimates.map((estimate) => estimate?.[1])), high: column(estimates.map((estimate) => estimate?.[2])) };
  return {
    name: row.round === 0 ? "before training" : `round ${row.round}`,
    color: isFaint ? "color-mix(in oklab, var(--accent) 45%, var(--panel))" : "var(--accent)",
    values: column(estimates.map((estimate) => estimate?.[0])),
    isFaint,
    isDashed: row.round === 0,
    ...(!isFaint && { interval }),
  };
}
