import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { camelKeys } from "../config/case.ts";
import { PrelortError } from "../errors.ts";
import type { RoundMetrics } from "../server/events.ts";

/** What a run left behind, as far as a report needs it. */
export interface RecordedRun {
  readonly directory: string;
  readonly record: RunRecord;
  /** In order; round 0 is before training. */
  readonly rounds: readonly RoundMetrics[];
  readonly timings: readonly Timing[];
}

export type RunRecord = z.output<typeof runRecord>;
export type Timing = z.output<typeof timing>;

const count = z.number().int().nonnegative();
const metric = z.number().nullable();

/** Loose: a later prelort may record more. */
const runRecord = z.object({
  name: z.string(),
  prelort: z.string(),
  method: z.object({ name: z.string(), note: z.string() }),
  config: z.looseObject({
    rounds: count,
    model: z.looseObject({ name_or_path: z.string(), task: z.string() }),
    data: z.looseObject({ path: z.string() }),
  }),
  versions: z.record(z.string(), z.string()),
  labels: z.array(z.string()),
  eval_examples: count,
  clients: z.array(
    z.object({
      id: z.string(),
      n: count,
      r: count,
      label_counts: z.array(count),
      mix: z.array(z.object({ value: z.string(), n: count })),
      tokens: count,
    }),
  ),
  layout: z.object({ r: count, tiers: z.array(count) }),
});

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

const timing = z.object({ round: count, phase: z.string(), seconds: z.number().nonnegative() });

/** Reads a run directory, finished or not. Throws a PrelortError that names the file and line that cannot be read. */
export async function readRun(directory: string): Promise<RecordedRun> {
  const [record, rounds, timings] = await Promise.all([
    readRecord(join(directory, "run.json")),
    readLines(join(directory, "metrics.jsonl"), roundMetrics, camelKeys),
    readLines(join(directory, "timings.jsonl"), timing),
  ]);
  return { directory, record, rounds, timings };
}

async function readRecord(file: string): Promise<RunRecord> {
  return parse(await readText(file), runRecord, file);
}

/** The last line has no end if its writer was killed; it was never committed. */
async function readLines<T>(file: string, schema: z.ZodType<T>, prepare = (value: unknown) => value): Promise<T[]> {
  const lines = (await readText(file)).split("\n").slice(0, -1);
  return lines.map((line, index) => parse(line, schema, `${file}:${index + 1}`, prepare));
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (cause) {
    throw new PrelortError("config", `cannot read ${file}: expected the directory of a run, such as runs/quickstart`, { cause });
  }
}

function parse<T>(text: string, schema: z.ZodType<T>, place: string, prepare = (value: unknown) => value): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new PrelortError("config", `${place}: expected JSON, got ${JSON.stringify(text.slice(0, 80))}`, { cause });
  }
  const { data, error } = schema.safeParse(prepare(value));
  if (error) throw new PrelortError("config", `${place} is not as prelort writes it:\n${z.prettifyError(error)}`);
  return data;
}
