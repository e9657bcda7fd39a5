import { renderTextTable } from "../../dist/report/text-table.js";
import type { Context, Experiment } from "./experiment.ts";
import { type Row, type Sample, summarise } from "./figures.ts";

/** Every row ends in one of these. */
export interface Outcome {
  readonly rows: readonly Row[];
  /** Rows without a figure, and what they would need. */
  readonly notRun: readonly Untold[];
  /** Rows without a figure, since their experiment failed. */
  readonly failed: readonly Untold[];
}

interface Untold {
  readonly name: string;
  readonly why: string;
}

/** Runs one experiment after the other. One that fails does not keep the others from being measured. */
export async function runExperiments(
  experiments: readonly Experiment[],
  repeats: number,
  context: Context,
  say: (text: string) => void,
): Promise<Outcome> {
  const [rows, notRun, failed]: [Row[], Untold[], Untold[]] = [[], [], []];
  for (const experiment of experiments) {
    const untold = (why: string) => experiment.rows.map(({ name }) => ({ name, why }));
    if (experiment.needs && !experiment.needs.isThere()) {
      const skipped = untold(`needs ${experiment.needs.what}`);
      notRun.push(...skipped);
      say(skipped.map(({ name, why }) => `${name}: not run: ${why}`).join("\n"));
      continue;
    }
    try {
      const measured = await measure(experiment, repeats, context, say);
      say(tableOf(measured));
      rows.push(...measured);
    } catch (error) {
      context.signal.throwIfAborted();
      failed.push(...untold(error instanceof Error ? error.message : String(error)));
      say(`${experiment.name}: failed: ${failed.at(-1)?.why}`);
    }
  }
  return { rows, notRun, failed };
}

async function measure(experiment: Experiment, repeats: number, context: Context, say: (text: string) => void): Promise<Row[]> {
  const samples: Sample[] = [];
  const times = Math.min(repeats, experiment.atMostRepeats ?? repeats);
  for (let repeat = 0; repeat < times; repeat++) {
    say(`${experiment.name}: ${repeat + 1} of ${times}`);
    samples.push(await experiment.measure(context, repeat));
  }
  return experiment.rows.map((row) => summarise(row, samples));
}

export function tableOf(rows: readonly Row[]): string {
  const cells = rows.map(({ name, unit, ours, peer, peerName, ratio, spread: [least, most], target, met }) => {
    const verdict = met === null ? "" : met ? "met" : "missed";
    const range = `${short(least)}–${short(most)}`;
    return [name, `${short(ours)} ${unit}`, `${short(peer)} (${peerName})`, short(ratio), range, target ?? "", verdict];
  });
  const columns = ["what", "ours", "peer", "ratio", "spread", "to reach", ""];
  return renderTextTable({ title: "", columns, rows: cells }, process.stdout.columns);
}

function short(value: number): string {
  return value >= 1000 ? Math.round(value).toLocaleString("en") : value.toPrecision(3);
}
