import path from "node:path";
import { z } from "zod";
import { readJsonLines } from "../base/read-file.ts";
import { judgeRecorded } from "../records/best-round.ts";
import { readMetrics, type RoundMetrics } from "../records/metrics.ts";
import { readTimings, type Timing } from "../records/timings.ts";
import { describeWorker } from "../report/phrases.ts";
import type { RunView } from "../report/run-view.ts";
import { comparedRounds } from "../report/sample-answers.ts";
import { readListedRecord } from "./listed-record.ts";
import type { Choice, Failure, RoundRow, RunDetail, RunStatus, RunSummary } from "./messages.ts";
import { roundRow } from "./round-row.ts";
import { toldRound } from "./told-round.ts";
import type { ListedRun } from "./run-rows.ts";
import type { Stories } from "./run-story.ts";
import { lastSpans } from "./timeline.ts";

/** Upper bounds on what one page is sent. */
const MAX_SPANS = 20_000;
const MAX_FAILURES = 500;

/** Everything of a run that can be read, and what cannot. */
export async function readDetail({ directory, summary }: ListedRun, stories: Stories): Promise<RunDetail> {
  const problems: string[] = summary.problem === null ? [] : [summary.problem];
  const attempt: Attempt = async (read, otherwise) => {
    try {
      return await read();
    } catch (error) {
      problems.push((error as Error).message);
      return otherwise;
    }
  };
  const hasRecord = summary.state !== "no run" && summary.state !== "damaged";
  const record = hasRecord ? await attempt<Readonly<Record<string, unknown>>>(() => readListedRecord(directory), {}) : {};
  const rounds = await attempt(() => readRounds(path.join(directory, "metrics.jsonl"), problems), []);
  const rows = rounds.map(roundRow);
  const timings = await attempt<readonly Timing[]>(() => readTimings(path.join(directory, "timings.jsonl")), []);
  const { view, timeline, memory, failures, lastEvent } = await stories.read(directory, (read) => attempt(read, undefined));
  const failed = lastEvent === undefined ? await attempt(() => journalFailures(directory), []) : failures;
  return {
    ...statusOf(summary, lastEvent === undefined ? undefined : view),
    directory,
    problems,
    lastEvent: lastEvent ?? 0,
    ...describeRecord(record),
    ...choose(record["config"], rounds),
    tiers: tiersOf(record, rows),
    rows,
    told: comparedRounds(rounds).map(toldRound),
    timings,
    timeline: lastSpans(timeline.data, MAX_SPANS),
    memory: [...memory.values()],
    failures: failed.slice(-MAX_FAILURES),
  };
}

/** What `read` finds, or `otherwise`, in which case the error is one of the run's problems. */
type Attempt = <T>(read: () => Promise<T>, otherwise: T) => Promise<T>;

/** What a run is doing, in words; `view` is undefined if its events are not recorded. */
export function statusOf(summary: RunSummary, view: RunView | undefined): RunStatus {
  const isRunning = summary.state === "running";
  const workers = isRunning && view ? [...view.workers.values()].filter(({ state }) => state !== "stopped") : [];
  return {
    summary,
    wait: isRunning && view ? view.wait : null,
    workers: workers.map((worker) => ({ id: worker.workerId, words: describeWorker(worker), since: worker.since })),
  };
}

async function readRounds(file: string, problems: string[]): Promise<readonly RoundMetrics[]> {
  const { lines } = await readMetrics(file);
  const rounds = new Map<number, RoundMetrics>();
  for (const { number, metrics, problem } of lines) {
    if (metrics) rounds.set(metrics.round, metrics);
    else problems.push(`${file}:${number} is damaged: ${problem}`);
  }
  return [...rounds.values()].toSorted((a, b) => a.round - b.round);
}

function choose(config: unknown, rounds: readonly RoundMetrics[]): Choice {
  const { best, stopped } = judgeRecorded(config, rounds);
  return { best: best ?? null, stopped: stopped ?? null };
}

type Described = Pick<RunDetail, "method" | "config" | "versions" | "device" | "doubts">;

/** The parts of a record that have the right form. */
function describeRecord(record: Readonly<Record<string, unknown>>): Described {
  const { method, device, versions, doubts } = describedPart.parse(record);
  return {
    method: method ?? null,
    config: record["config"] ?? null,
    versions: Object.fromEntries(
      Object.entries(versions ?? {}).flatMap(([name, version]) => (version === undefined ? [] : [[name, version]])),
    ),
    device: device ? `${device.name} (${device.type})` : null,
    doubts: (doubts ?? []).flatMap((doubt) => doubt ?? []),
  };
}

const text = z.string();
const textIfAny = text.optional().catch(undefined);
const describedPart = z.object({
  method: z.object({ name: text, note: text }).optional().catch(undefined),
  device: z.object({ name: text, type: text }).optional().catch(undefined),
  versions: z.record(z.string(), textIfAny).optional().catch(undefined),
  doubts: z.array(textIfAny).optional().catch(undefined),
});

function tiersOf(record: Readonly<Record<string, unknown>>, rows: readonly RoundRow[]): readonly number[] {
  const tiers = (record["layout"] as { readonly tiers?: unknown } | undefined)?.tiers;
  if (Array.isArray(tiers) && tiers.every((r) => typeof r === "number")) return tiers;
  return rows.findLast((row) => row.tiers.length > 0)?.tiers ?? [];
}

/** The failures of a run whose events are not recorded; the journal has no times. */
async function journalFailures(directory: string): Promise<Failure[]> {
  const failures: Failure[] = [];
  await readJsonLines(path.join(directory, "journal.jsonl"), ({ value }) => {
    const entry = value as Readonly<Record<string, unknown>> | undefined;
    if (entry?.["type"] !== "failure") return;
    const { data } = journalFailure.safeParse(entry);
    if (!data) return;
    const [, round, client] = /^round-(\d+)\/fit\/(.*)$/s.exec(data.task_id) ?? [];
    failures.push({
      at: 0,
      round: round === undefined ? null : Number(round),
      clientId: client ?? null,
      workerId: data.worker_id,
      attempt: data.attempt,
      error: data.error,
      willRetry: data.will_retry === true,
    });
  });
  return failures;
}

const journalFailure = z.object({
  task_id: z.string(),
  worker_id: z.string(),
  attempt: z.number(),
  error: z.string(),
  will_retry: z.unknown(),
});
