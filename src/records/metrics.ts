import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { camelKeys, snakeKeys } from "../base/case.ts";
import { check } from "../config/check.ts";
import { openLineLog, writeDurably } from "./durable-file.ts";
import type { Commit } from "./journal.ts";
import { readJsonLines } from "../base/read-file.ts";
import { describeProblems } from "./run-record.ts";

/* `metrics.jsonl`: a line for each committed round, in order. */

/** Quality of the global adapter at one tier. */
export interface TierMetrics {
  readonly r: number;
  /** Mean loss: per answer token (language models), per example (classification). */
  readonly loss: number | null;
  /** e^loss of a language model; null for other tasks. */
  readonly perplexity: number | null;
  /** Share of examples whose most likely label is right; null without labels. */
  readonly accuracy: number | null;
  /** Mean over the labels that occur, or were answered, of F1; null without labels. */
  readonly macroF1: number | null;
  /** Mean ROUGE-L F-measure of text generated greedily from the prompt against the answer; null where none was generated. */
  readonly rougeL: number | null;
  /** Means of the task's own metrics over the examples. */
  readonly own: readonly { readonly name: string; readonly value: number | null }[];
  readonly examples: number;
}

export interface RoundMetrics {
  /** 0 is before training. */
  readonly round: number;
  /** Empty in rounds that were not evaluated. */
  readonly byTier: readonly TierMetrics[];
  /** Where an aggregation merges into the base model: the merged model, which is one for all ranks. */
  readonly merged: TierMetrics | null;
  /** The adapter at each client's own rank, on examples of its own that no client trains on; empty without such. */
  readonly byClient: readonly ({ readonly id: string } & TierMetrics)[];
  /** Per segment (named by its tier): ‖s·B_seg·A_seg‖²_F summed over the modules. Empty in rounds that were not evaluated. */
  readonly energy: readonly { readonly r: number; readonly energy: number }[];
  /** Mean training loss over the reporting clients, weighted by their examples. */
  readonly fitLoss: number | null;
  readonly reported: readonly string[];
  readonly failed: readonly string[];
  /** They were not waited for. */
  readonly late: readonly string[];
  /** Per segment (named by its tier): clients that trained it and their examples. */
  readonly coverage: readonly { readonly r: number; readonly clients: number; readonly examples: number }[];
  readonly passes: number;
  /** Tensor bytes of the fits. */
  readonly bytesDown: number;
  readonly bytesUp: number;
}

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
