import { join } from "node:path";
import { z } from "zod";
import { PrelortError } from "../errors.ts";
import { readMetrics, type RoundMetrics } from "./metrics.ts";
import type { RecordedClients } from "./client-table.ts";
import { readClients, readReadyRecord, runRecord } from "./run-record.ts";
import { count, names } from "./schema.ts";
import { readTimings, type Timing } from "./timings.ts";

/** What a report needs of a run directory. */
export interface RecordedRun {
  readonly directory: string;
  readonly record: RunRecord;
  readonly clients: RecordedClients;
  /** In order; round 0 is before training. */
  readonly rounds: readonly RoundMetrics[];
  readonly timings: readonly Timing[];
}

const reportedRecord = runRecord
  .pick({
    name: true,
    prelort: true,
    method: true,
    versions: true,
    labels: true,
    eval_examples: true,
    clients: true,
    layout: true,
  })
  .extend({
    doubts: names.default([]),
    config: z.looseObject({
      rounds: count,
      model: z.looseObject({ name_or_path: z.string(), task: z.string() }),
      data: z.looseObject({ path: z.string() }),
    }),
  });

export type RunRecord = z.output<typeof reportedRecord>;

/** Reads a run directory, finished or not. Throws a PrelortError that names the file and line that cannot be read. */
export async function readRun(directory: string): Promise<RecordedRun> {
  const record = await readReadyRecord(directory, reportedRecord);
  const [clients, rounds, timings] = await Promise.all([
    readClients(directory, record),
    readRounds(directory),
    readTimings(join(directory, "timings.jsonl")),
  ]);
  return { directory, record, clients, rounds, timings };
}

/** The metrics of a run's rounds, in order. Throws a PrelortError that names the first damaged line. */
export async function readRounds(directory: string): Promise<readonly RoundMetrics[]> {
  const file = join(directory, "metrics.jsonl");
  const { lines } = await readMetrics(file);
  const damaged = lines.find(({ problem }) => problem !== undefined);
  if (damaged) {
    const problem = `${file}:${damaged.number} is damaged: ${damaged.problem}`;
    throw new PrelortError("run", `${problem}; prelort resume evaluates its round again`);
  }
  // By the round they name, whatever their order in the file.
  const byRound = new Map(lines.toReversed().flatMap(({ metrics }) => (metrics ? [[metrics.round, metrics] as const] : [])));
  return [...byRound.values()].toSorted((a, b) => a.round - b.round);
}
