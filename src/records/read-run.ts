import { join } from "node:path";
import { z } from "zod";
import { check } from "../config/check.ts";
import { PrelortError } from "../errors.ts";
import type { RoundMetrics } from "./metrics.ts";
import { readMetrics } from "./metrics.ts";
import { readJsonLines } from "../base/read-file.ts";
import { describeProblems, readReadyRecord } from "./run-record.ts";

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

const timing = z.object({ round: count, phase: z.string(), seconds: z.number().nonnegative() });

/** Reads a run directory, finished or not. Throws a PrelortError that names the file and line that cannot be read. */
export async function readRun(directory: string): Promise<RecordedRun> {
  const record = await readReadyRecord(directory, runRecord);
  const [rounds, timings] = await Promise.all([
    readRounds(join(directory, "metrics.jsonl")),
    readTimings(join(directory, "timings.jsonl")),
  ]);
  return { directory, record, rounds, timings };
}

async function readRounds(file: string): Promise<readonly RoundMetrics[]> {
  const { lines } = await readMetrics(file);
  const damaged = lines.find(({ problem }) => problem !== undefined);
  if (damaged) throw damage(file, damaged.number, `${damaged.problem}; prelort resume evaluates its round again`);
  // By the round that they are of, not by their place.
  const byRound = new Map(lines.toReversed().flatMap(({ metrics }) => (metrics ? [[metrics.round, metrics] as const] : [])));
  return [...byRound.values()].toSorted((one, other) => one.round - other.round);
}

async function readTimings(file: string): Promise<readonly Timing[]> {
  const timings: Timing[] = [];
  await readJsonLines(file, ({ number, value }) => {
    const { value: entry, problems } = check(timing, value, "snake_case");
    if (problems) throw damage(file, number, `${describeProblems(problems)}; remove the line to do without it`);
    timings.push(entry);
  });
  return timings;
}

function damage(file: string, number: number, problem: string): PrelortError {
  return new PrelortError("run", `${file}:${number} is damaged: ${problem}`);
}
