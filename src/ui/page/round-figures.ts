import { formatBytes, formatCount, formatNumber, formatSeconds } from "../../report/format.ts";
import type { RoundRow, RunDetail } from "../messages.ts";
import type { ChartOptions, Line } from "./chart-options.ts";
import { tierColor } from "./colors.ts";
import type { Figure } from "./figure.ts";
import { LineChart } from "./line-chart.ts";

const trained = (rows: readonly RoundRow[]) => rows.filter(({ round }) => round > 0);

/** One line per segment. */
function segments(
  tiers: readonly number[],
  {
    title,
    label,
    yName,
    note,
    of,
    format,
    isLog = false,
  }: {
    readonly title: string;
    readonly label: string;
    readonly yName: string;
    readonly note: string;
    readonly of: (row: RoundRow) => readonly number[];
    readonly format: (value: number | null) => string;
    readonly isLog?: boolean;
  },
): Figure {
  const chart = new LineChart({ title, label, xName: "round", yName: () => yName, format, isLog, height: 240 });
  return {
    root: chart.root,
    update(rows) {
      const rounds = trained(rows).filter((row) => of(row).length > 0);
      const lines = tiers.map((r, index): Line => {
        const values = rounds.map((row) => of(row)[index] ?? null);
        // A logarithmic axis has no zero.
        return {
          name: segmentName(tiers, index),
          color: tierColor(index, tiers.length),
          values: isLog ? values.map((value) => (value === 0 ? null : value)) : values,
        };
      });
      chart.update({ x: rounds.map(({ round }) => round), lines: lines.toReversed() }, note);
    },
    close: () => chart.close(),
  };
}

/** Its components, counted from 1. */
function segmentName(tiers: readonly number[], index: number): string {
  const [first, last] = [(tiers[index - 1] ?? 0) + 1, tiers[index]];
  return first === last ? `component ${first}` : `components ${first}–${last}`;
}

export function contributors(tiers: readonly number[]): Figure {
  return segments(tiers, {
    title: "Contributors",
    label: "Line chart: clients that trained each segment, over the rounds.",
    yName: "clients",
    note: "Clients that trained each segment of the adapter in a round. A segment that nobody trains keeps its value.",
    of: ({ coverage }) => coverage,
    format: (value) => (value === null ? "—" : formatCount(value)),
  });
}

export function energy(tiers: readonly number[]): Figure {
  return segments(tiers, {
    title: "Energy",
    label: "Line chart, logarithmic: energy of each segment of the adapter, over the rounds.",
    yName: "energy (logarithmic)",
    note: "‖s·B·A‖² of each segment, on a logarithmic axis: how much of the change to the base model it holds.",
    of: (row) => row.energy,
    format: (value) => (value === null ? "—" : value !== 0 && Math.abs(value) < 0.01 ? value.toExponential(1) : formatNumber(value)),
    isLog: true,
  });
}

function overRounds(
  options: Pick<ChartOptions, "title" | "label" | "yName" | "format" | "steps"> & { readonly note: string },
  linesOf: (rows: readonly RoundRow[], detail: RunDetail) => readonly Line[],
): Figure {
  const chart = new LineChart({ ...options, xName: "round", height: 240 });
  return {
    root: chart.root,
    update(rows, detail) {
      const rounds = trained(rows);
      chart.update({ x: rounds.map(({ round }) => round), lines: linesOf(rounds, detail) }, options.note);
    },
    close: () => chart.close(),
  };
}

export function bytes(): Figure {
  const options = {
    title: "Bytes each way",
    label: "Line chart: tensor bytes sent to clients and of their updates, over the rounds.",
    yName: () => "bytes per round",
    note: "Tensor bytes of a round, to its clients and from them.",
    format: (value: number | null) => (value === null ? "—" : formatBytes(value)),
    steps: Array.from({ length: 50 }, (_, power) => 2 ** power),
  };
  return overRounds(options, (rows) => [
    { name: "to clients", color: "var(--lowest)", values: rows.map(({ bytesDown }) => bytesDown) },
    { name: "from clients", color: "var(--highest)", isDashed: true, values: rows.map(({ bytesUp }) => bytesUp) },
  ]);
}

export function seconds(): Figure {
  const options = {
    title: "Time of a round",
    label: "Line chart: seconds that each phase took, over the rounds.",
    yName: () => "time per round",
    note: "By phase, as recorded. An evaluation may go on while the next round trains.",
    format: (value: number | null) => (value === null ? "—" : value < 1 ? `${Math.round(1000 * value)} ms` : formatSeconds(value)),
  };
  return overRounds(options, (rows, { timings }) => {
    const phases = [...new Set(timings.filter(({ round }) => round > 0).map(({ phase }) => phase))];
    const times = new Map(timings.map(({ round, phase, seconds: took }) => [`${round} ${phase}`, took]));
    return phases.map((phase, index) => ({
      name: phase,
      color: tierColor(index, Math.max(2, phases.length)),
      values: rows.map(({ round }) => times.get(`${round} ${phase}`) ?? null),
    }));
  });
}

export function trainingLoss(): Figure {
  const options = {
    title: "Training loss",
    label: "Line chart: mean training loss of the clients that reported, over the rounds.",
    yName: () => "loss",
    note: "Mean over the clients that reported, weighted by their examples.",
    format: (value: number | null) => formatNumber(value),
  };
  return overRounds(options, (rows) => [{ name: "training loss", color: "var(--accent)", values: rows.map(({ fitLoss }) => fitLoss) }]);
}
