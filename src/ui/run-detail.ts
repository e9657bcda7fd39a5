import path from "node:path";
import { readJsonLines } from "../base/read-file.ts";
import { readMetrics } from "../records/metrics.ts";
import { readRecord } from "../records/run-record.ts";
import { readTimings, type Timing } from "../records/timings.ts";
import { describeWorker } from "../report/phrases.ts";
import { advance, emptyView, type RunView } from "../report/run-view.ts";
import type { CheckedEvent } from "./live-event.ts";
import type { Failure, RoundRow, RunDetail, RunStatus, RunSummary } from "./messages.ts";
import { recordedEvents } from "./recorded-events.ts";
import { roundRow } from "./round-row.ts";
import { lastSpans, Timeline } from "./timeline.ts";

/** Upper bounds on what one page is sent. */
const MAX_SPANS = 20_000;
const MAX_FAILURES = 500;

/** Everything of a run that can be read, and what cannot. */
export async function readDetail(directory: string, summary: RunSummary): Promise<RunDetail> {
  const problems: string[] = summary.problem === null ? [] : [summary.problem];
  const attempt = async <T>(read: () => Promise<T>, otherwise: T): Promise<T> => {
    try {
      return await read();
    } catch (error) {
      problems.push((error as Error).message);
      return otherwise;
    }
  };
  const hasRecord = summary.state !== "no run" && summary.state !== "damaged";
  const record = hasRecord ? await attempt(() => readRecord(directory), {}) : {};
  const rows = await attempt(() => readRows(path.join(directory, "metrics.jsonl"), problems), []);
  const timings = await attempt<readonly Timing[]>(() => readTimings(path.join(directory, "timings.jsonl")), []);
  const events = await attempt<readonly CheckedEvent[]>(() => recordedEvents(directory), []);
  const timeline = new Timeline();
  const failures: Failure[] = [];
  let view = emptyView;
  for (const { event, live, at } of events) {
    view = advance(view, event, at);
    if (live) timeline.advance(live);
    if (live?.type === "client-failure") failures.push(live);
  }
  if (events.length === 0) failures.push(...(await attempt(() => journalFailures(directory), [])));
  return {
    ...statusOf(summary, events.length > 0 ? view : undefined),
    directory,
    problems,
    lastEvent: events.at(-1)?.number ?? 0,
    ...describeRecord(record),
    tiers: tiersOf(record, rows),
    rows,
    timings,
    timeline: lastSpans(timeline.data, MAX_SPANS),
    failures: failures.slice(-MAX_FAILURES),
  };
}

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

async function readRows(file: string, problems: string[]): Promise<readonly RoundRow[]> {
  const { lines } = await readMetrics(file);
  const rows = new Map<number, RoundRow>();
  for (const { number, metrics, problem } of lines) {
    if (metrics) rows.set(metrics.round, roundRow(metrics));
    else problems.push(`${file}:${number} is damaged: ${problem}`);
  }
  return [...rows.values()].toSorted((a, b) => a.round - b.round);
}

type Described = Pick<RunDetail, "method" | "config" | "versions" | "device" | "doubts">;

/** The parts of a record that have the right form. */
function describeRecord(record: Readonly<Record<string, unknown>>): Described {
  const method = record["method"] as { readonly name?: unknown; readonly note?: unknown } | undefined;
  const device = record["device"] as { readonly name?: unknown; readonly type?: unknown } | undefined;
  const versions = Object.entries(record["versions"] ?? {}).map(([name, version]) => [name, String(version)] as const);
  const doubts = record["doubts"];
  return {
    method: method ? { name: String(method.name), note: String(method.note) } : null,
    config: record["config"] ?? null,
    versions: Object.fromEntries(versions),
    device: device ? `${String(device.name)} (${String(device.type)})` : null,
    doubts: Array.isArray(doubts) ? doubts.map(String) : [],
  };
}

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
    const [, round, client] = /^round-(\d+)\/fit\/(.*)$/s.exec(String(entry["task_id"])) ?? [];
    failures.push({
      at: 0,
      round: round === undefined ? null : Number(round),
      clientId: client ?? null,
      workerId: String(entry["worker_id"]),
      attempt: Number(entry["attempt"]),
      error: String(entry["error"]),
      willRetry: entry["will_retry"] === true,
    });
  });
  return failures;
}
