import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { camelKeys, snakeKeys } from "../base/case.ts";
import { check } from "../config/check.ts";
import { readJsonLines } from "../base/read-file.ts";
import { writeDurably } from "./durable-file.ts";
import { openLineLog } from "./line-log.ts";
import { count, describeProblems, list, names } from "./schema.ts";

/*
 * The figures of a round, and `metrics.jsonl`, which holds them: a line for each committed round, in order, with snake_case keys.
 * Keys are written in the order of these schemas.
 */

/** The type of a plain object of schemas, which keeps the comments on its fields. */
type Figures<S extends z.ZodRawShape> = Readonly<z.output<z.ZodObject<S>>>;

const metric = z.number().nullable();

const interval = z.object({ name: z.string(), low: z.number(), high: z.number() }).readonly();
/** The 95 % interval of a metric, by its name as `evaluate.best` has it. */
export type Interval = z.output<typeof interval>;

const tierShape = {
  /** Rank at which the adapter was evaluated. */
  r: count,
  /** Mean loss: per answer token (language models), per example (classification). */
  loss: metric,
  /** e^loss of a language model; null for other tasks. */
  perplexity: metric,
  /** Share of examples with the right label predicted; null without labels. */
  accuracy: metric,
  /** Mean F1 over the labels that occur or were predicted; null without labels. */
  macroF1: metric,
  /** Mean ROUGE-L F-measure of text generated greedily from the prompt against the answer; null if none was generated. */
  rougeL: metric,
  /** Means of the task's own metrics over the examples. */
  own: list(z.object({ name: z.string(), value: metric }).readonly()),
  /** Examples evaluated. */
  examples: count,
  /** Loss in bits, over the UTF-8 bytes of the text that the targets spell; null if they spell none. */
  bitsPerByte: metric.default(null),
  /** Expected calibration error, over 15 bins; null without labels and their probabilities. */
  ece: metric.default(null),
  /** What the held-out examples allow for each of these figures; not of single clients. */
  intervals: list(interval).optional(),
};
/** Quality of the global adapter at one tier. */
export interface TierMetrics extends Figures<typeof tierShape> {}

const tierMetrics: z.ZodType<TierMetrics> = z.object(tierShape).readonly();
const clientMetrics: z.ZodType<{ readonly id: string } & TierMetrics> = z.object({ id: z.string(), ...tierShape }).readonly();

const sample = z
  .object({ prompt: z.string(), reference: z.string(), answers: list(z.object({ r: count, text: z.string() }).readonly()) })
  .readonly();

const confusion = z.object({ r: count, cells: list(z.tuple([count, count, count]).readonly()) }).readonly();
/** Cells [actual, predicted, examples] of a tier's confusion matrix; labels by their number. */
export type Confusion = z.output<typeof confusion>;

/** The figures of a round's training; also part of the journal's commit. */
export const trainedShape = {
  /** Per segment (named by its tier): clients that trained it and their examples. */
  coverage: list(z.object({ r: count, clients: count, examples: count }).readonly()),
  /** Mean training loss over the reporting clients, weighted by their examples. */
  fitLoss: metric,
  /** With `fit.max_grad_norm`: mean norm of the gradients before clipping, weighted as `fitLoss`. */
  gradNorm: metric.optional(),
  /** With `fit.epochs`: optimizer steps of all fits. */
  steps: count.optional(),
  /** Clients whose updates were aggregated. */
  reported: names,
  /** Clients that used up their attempts. */
  failed: names,
  /** Clients that had not reported when the round closed. */
  late: names,
  /** Forward/backward passes of all fits. */
  passes: count,
  /** Tensor bytes sent to clients for their fits. */
  bytesDown: count,
  /** Tensor bytes of the clients' updates. */
  bytesUp: count,
};

const evaluatedShape = {
  /** Empty in rounds that were not evaluated. */
  byTier: list(tierMetrics),
  /** The merged model, which is the same for all ranks, if the aggregation merges into the base model. */
  merged: tierMetrics.nullable(),
  /** The adapter at each client's own rank, on the client's held-out examples; empty without such examples. */
  byClient: list(clientMetrics),
  /** With `evaluate.samples`, where answers were generated: held-out examples, with the answer of each tier. */
  samples: list(sample).optional(),
  /** With labels, at the smallest and the largest tier: how often each label was predicted for each, see confusion.ts. */
  confusion: list(confusion).optional(),
  /** Per segment (named by its tier): ‖s·B_seg·A_seg‖²_F summed over the modules. Empty in rounds that were not evaluated. */
  energy: list(z.object({ r: count, energy: z.number() }).readonly()),
};

/** The part of a round's metrics that comes from its training. */
export interface TrainedMetrics extends Figures<typeof trainedShape> {}
/** The figures of a round in which nobody trained. */
export const NOTHING_TRAINED: TrainedMetrics = {
  coverage: [],
  fitLoss: null,
  reported: [],
  failed: [],
  late: [],
  passes: 0,
  bytesDown: 0,
  bytesUp: 0,
};

/** The part of a round's metrics that comes from its evaluation. */
export interface EvaluatedMetrics extends Figures<typeof evaluatedShape> {}

/** The figures of a round. */
export interface RoundMetrics extends EvaluatedMetrics, TrainedMetrics {
  /** 0 is before training. */
  readonly round: number;
}

/** The figures of a round, in camelCase. */
export const roundMetrics: z.ZodType<RoundMetrics> = z
  .object({ round: count, ...evaluatedShape, ...trainedShape, late: names.default([]) })
  .readonly();

/** A complete line of a metrics file: its figures, or what is wrong with it. */
export type MetricsLine = { readonly number: number; readonly text: string } & ParsedMetrics;
type ParsedMetrics = { readonly metrics: RoundMetrics; readonly problem?: never } | { readonly metrics?: never; readonly problem: string };

/** Reads the complete lines of a metrics file; `end` is where the last one ends. */
export async function readMetrics(file: string): Promise<{ readonly lines: readonly MetricsLine[]; readonly end: number }> {
  const lines: MetricsLine[] = [];
  const end = await readJsonLines(file, ({ number, text, value }) => lines.push({ number, text, ...parseMetrics(value) }));
  return { lines, end };
}

/** The figures of a line's value, which is undefined if the line is not JSON, or what is wrong with them. */
export function parseMetrics(value: unknown): ParsedMetrics {
  const { value: metrics, problems } = check(roundMetrics, camelKeys(value), "snake_case");
  if (metrics) return { metrics };
  return { problem: value === undefined ? "it is not JSON" : describeProblems(problems) };
}

/** Whether a round's metrics hold what the journal committed for it. */
export function isOfCommit(metrics: RoundMetrics, commit: { readonly round: number; readonly trained: TrainedMetrics }): boolean {
  const { round, trained } = commit;
  return (
    metrics.round === round && Object.entries(trained).every(([key, value]) => isDeepStrictEqual(metrics[key as keyof RoundMetrics], value))
  );
}

/** What a resumed run found in its metrics file. */
export interface FoundMetrics {
  /** Undamaged lines by round, in order. */
  readonly lines: ReadonlyMap<number, string>;
  /** The file holds nothing else before `end`. */
  readonly isClean: boolean;
  readonly end: number;
}

export interface MetricsFile {
  /** Writes a round's line in order; it is on disk once this resolves. Other lines are kept byte for byte. */
  write(metrics: RoundMetrics): Promise<void>;
  close(): Promise<void>;
}

/** Changes nothing before the first line is written. */
export function openMetricsFile(file: string, found: FoundMetrics = { lines: new Map(), isClean: true, end: 0 }): MetricsFile {
  const lines = new Map(found.lines);
  let { isClean } = found;
  let last = [...lines.keys()].at(-1) ?? -1;
  let log = openLineLog<RoundMetrics>(file, { keep: found.end, encode: snakeKeys });
  return {
    async write(metrics) {
      const { round } = metrics;
      const isNext = isClean && last < round;
      last = Math.max(last, round);
      lines.set(round, JSON.stringify(snakeKeys(metrics)));
      if (isNext) {
        log.append(metrics);
        return log.flush();
      }
      await log.close();
      const inOrder = [...lines].toSorted(([a], [b]) => a - b);
      await writeDurably(
        file,
        inOrder.map(([, line]) => Buffer.from(`${line}\n`)),
      );
      log = openLineLog(file, { encode: snakeKeys });
      isClean = true;
    },
    close: () => log.close(),
  };
}
