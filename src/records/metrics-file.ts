import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { camelKeys, snakeKeys } from "../base/case.ts";
import { check } from "../config/check.ts";
import { openLineLog, writeDurably } from "./durable-file.ts";
import type { RoundMetrics } from "../server/events.ts";
import type { Commit } from "./journal.ts";
import { readJsonLines } from "../base/read-file.ts";
import { describeProblems } from "./run-record.ts";

/* `metrics.jsonl`: a line for each committed round, in order. */

const count = z.number().int().nonnegative();
const metric = z.number().nullable();

const tierMetrics = z.object({
  r: count,
  loss: metric,
  perplexity: metric,
  accuracy: metric,
  macroF1: metric,
  rougeL: metric,
  own: z.array(z.object({ name: z.string(), value: metric })),
  examples: count,
});
const roundMetrics = z.object({
  round: count,
  byTier: z.array(tierMetrics),
  merged: tierMetrics.nullable(),
  byClient: z.array(tierMetrics.extend({ id: z.string() })),
  energy: z.array(z.object({ r: count, energy: z.number() })),
  fitLoss: metric,
  reported: z.array(z.string()),
  failed: z.array(z.string()),
  late: z.array(z.string()).default([]),
  coverage: z.array(z.object({ r: count, clients: count, examples: count })),
  passes: count,
  bytesDown: count,
  bytesUp: count,
});

export type MetricsLine = { readonly number: number; readonly text: string } & (
  | { readonly metrics: RoundMetrics; readonly problem?: never }
  | { readonly metrics?: never; readonly problem: string }
);

/** The whole lines of a metrics file, each with its figures or what is wrong with it, and where the last one ends. */
export async function readMetrics(file: string): Promise<{ readonly lines: readonly MetricsLine[]; readonly end: number }> {
  const lines: MetricsLine[] = [];
  const end = await readJsonLines(file, ({ number, text, value }) => {
    const { value: metrics, problems } = check(roundMetrics, camelKeys(value), "snake_case");
    if (metrics) lines.push({ number, text, metrics });
    else lines.push({ number, text, problem: value === undefined ? "it is not JSON" : describeProblems(problems) });
  });
  return { lines, end };
}

/** Whether a line holds what training gave in the round that was committed. */
export function isOfCommit(metrics: RoundMetrics, { round, trained }: Commit): boolean {
  return (
    metrics.round === round && Object.entries(trained).every(([key, value]) => isDeepStrictEqual(metrics[key as keyof RoundMetrics], value))
  );
}

/** What an earlier life of the run left in its metrics file. */
export interface LeftMetrics {
  /** Lines that hold, by round, in order. */
  readonly lines: ReadonlyMap<number, string>;
  /** The file holds nothing else before `end`. */
  readonly isClean: boolean;
  readonly end: number;
}

export interface MetricsFile {
  /** Writes a round's line to where it belongs; it is on disk once this resolves. Other lines stay as they are. */
  write(metrics: Pick<RoundMetrics, "round">): Promise<void>;
  close(): Promise<void>;
}

/** Changes nothing before the first line is written. */
export function openMetricsFile(file: string, left: LeftMetrics = { lines: new Map(), isClean: true, end: 0 }): MetricsFile {
  const lines = new Map(left.lines);
  let { isClean } = left;
  let last = [...lines.keys()].at(-1) ?? -1;
  let log = openLineLog(file, left.end);
  return {
    async write(metrics) {
      const { round } = metrics;
      const entry = snakeKeys(metrics);
      const isNext = isClean && last < round;
      last = Math.max(last, round);
      lines.set(round, JSON.stringify(entry));
      if (isNext) {
        log.append(entry);
        return log.flush();
      }
      await log.close();
      const inOrder = [...lines].toSorted(([a], [b]) => a - b);
      await writeDurably(
        file,
        inOrder.map(([, line]) => Buffer.from(`${line}\n`)),
      );
      log = openLineLog(file);
      isClean = true;
    },
    close: () => log.close(),
  };
}
