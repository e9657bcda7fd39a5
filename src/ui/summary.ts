import { stat } from "node:fs/promises";
import { hostname } from "node:os";
import path from "node:path";
import { z } from "zod";
import { PrelortError } from "../errors.ts";
import { parseMetrics, type RoundMetrics } from "../records/metrics.ts";
import { RUN_RECORD } from "../records/run-record.ts";
import { readRunState } from "../records/run-state.ts";
import { qualityOf } from "../report/quality.ts";
import type { ListedState, RunSummary } from "./messages.ts";
import { readListedRecord } from "./listed-record.ts";
import { findLast, readPieces, withRegularFile } from "./tail.ts";

/** What is read again only if its file has changed. */
export interface SummaryCache {
  stamp: string;
  summary: RunSummary;
  readonly record: { stamp: string; value: RecordPart };
  readonly times: { size: number; seconds: number | null };
}

type RecordPart = Pick<RunSummary, "method" | "model" | "problem"> & { readonly rounds: number | null };

/** Files whose change changes the row, in this order. */
const WATCHED = [RUN_RECORD, "metrics.jsonl", "timings.jsonl", "events.jsonl", "journal.jsonl", "lock"] as const;

/** A row of the list, whatever the folder holds; reads only what has changed since `before`. */
export async function summarise(directory: string, name: string, before?: SummaryCache): Promise<SummaryCache> {
  const stamps = await Promise.all(WATCHED.map((file) => stampOf(path.join(directory, file))));
  const stamp = stamps.map(({ text }) => text).join(" ");
  // Whether a process still holds the run changes no file.
  if (before && before.stamp === stamp && before.summary.state !== "running") return before;
  const record = before?.record ?? { stamp: "", value: NO_RECORD };
  const times = before?.times ?? { size: 0, seconds: null };
  const recordStamp = stamps[0]?.text ?? "";
  if (record.stamp !== recordStamp) Object.assign(record, { stamp: recordStamp, value: await readPart(directory) });
  const isSame = before?.stamp === stamp;
  if (!isSame) await addTimes(path.join(directory, "timings.jsonl"), times);
  const { rounds, ...part } = record.value;
  const progress = isSame ? before.summary : await readProgress(path.join(directory, "metrics.jsonl"), rounds);
  const newest = Math.max(...stamps.map(({ time }) => time));
  const summary: RunSummary = {
    name,
    ...part,
    ...(await readState(directory, part.problem, recordStamp === "")),
    rounds: progress.rounds,
    quality: progress.quality,
    seconds: times.seconds,
    changed: newest > 0 ? newest : null,
  };
  return { stamp, summary, record, times };
}

async function stampOf(file: string): Promise<{ readonly text: string; readonly time: number }> {
  const found = await stat(file).catch(() => undefined);
  return found ? { text: `${found.size}:${found.mtimeMs}:${found.ino}`, time: found.mtimeMs } : { text: "", time: 0 };
}

const NO_RECORD: RecordPart = { method: null, model: null, problem: null, rounds: null };

const recordPart = z.object({
  method: z.object({ name: z.string() }).optional(),
  config: z.object({ rounds: z.number(), model: z.object({ name_or_path: z.string() }) }).optional(),
});

async function readPart(directory: string): Promise<RecordPart> {
  try {
    const { data, error } = recordPart.safeParse(await readListedRecord(directory));
    if (error) return { ...NO_RECORD, problem: `${RUN_RECORD} does not match the format of this version of prelort` };
    const { method, config } = data;
    return { method: method?.name ?? null, model: config?.model.name_or_path ?? null, problem: null, rounds: config?.rounds ?? null };
  } catch (error) {
    return { ...NO_RECORD, problem: briefly(error) };
  }
}

/** Without the heading of a ConfigError. */
function briefly(error: unknown): string {
  const text = error instanceof PrelortError ? error.message : `it could not be read: ${(error as Error).message}`;
  return text.replace(/^\d+ problems?:\n\s*run-dir\s+(run-dir: )?/, "");
}

async function readState(
  directory: string,
  problem: string | null,
  hasNoRecord: boolean,
): Promise<Pick<RunSummary, "state" | "problem" | "holder">> {
  if (hasNoRecord) return { state: "no run", problem, holder: null };
  try {
    const { state, holder, error } = await readRunState(directory);
    const shown: ListedState = problem === null || state === "running" ? state : "damaged";
    return {
      state: shown,
      problem: problem ?? error?.split("\n")[0] ?? null,
      holder: holder ? { host: holder.host, pid: holder.pid } : null,
    };
  } catch (error) {
    return { state: "damaged", problem: problem ?? briefly(error), holder: null };
  }
}

async function readProgress(file: string, of: number | null): Promise<Pick<RunSummary, "rounds" | "quality">> {
  let done: number | undefined;
  const evaluated = await findLast(file, (value) => {
    const round = (value as { readonly round?: unknown } | undefined)?.round;
    if (typeof round === "number") done ??= round;
    const tiers = (value as { readonly by_tier?: unknown } | undefined)?.by_tier;
    return Array.isArray(tiers) && tiers.length > 0 ? parseMetrics(value).metrics : undefined;
  });
  return { rounds: of === null ? null : { done: done ?? 0, of }, quality: evaluated ? bestAndWorst(evaluated) : null };
}

function bestAndWorst(metrics: RoundMetrics): RunSummary["quality"] {
  const quality = qualityOf([metrics]);
  const sign = quality.better === "higher" ? -1 : 1;
  const values = metrics.byTier
    .flatMap((tier) => {
      const value = quality.of(tier);
      return value === null ? [] : [{ r: tier.r, value }];
    })
    .toSorted((a, b) => sign * (a.value - b.value));
  const [best, worst] = [values.at(0), values.at(-1)];
  return best && worst ? { measure: quality.name, round: metrics.round, best, worst } : null;
}

/** Adds the times of lines that were appended since; all of them if the file was replaced by a shorter one. */
async function addTimes(file: string, times: SummaryCache["times"]): Promise<void> {
  await withRegularFile(file, async (handle, size) => {
    const forget = () => void Object.assign(times, { size: 0, seconds: null });
    if (size < times.size) forget();
    if (size - times.size > LARGEST_TIMES) return forget();
    let rest = "";
    for await (const piece of readPieces(handle, times.size, size)) {
      // Latin 1 keeps one character a byte; the numbers are ASCII.
      const text = rest + piece.toString("latin1");
      const end = text.lastIndexOf("\n") + 1;
      // Thousands of lines in hundreds of runs: the number is found without parsing the rest.
      for (let at = text.indexOf(SECONDS); at >= 0 && at < end; at = text.indexOf(SECONDS, at + 1)) {
        const start = at + SECONDS.length;
        const value = Number.parseFloat(text.slice(start, start + LONGEST_NUMBER));
        if (value >= 0 && value < Infinity) times.seconds = (times.seconds ?? 0) + value;
      }
      times.size += end;
      rest = text.slice(end);
      // prelort writes lines of some dozens of bytes.
      if (rest.length > LONGEST_TIME) return forget();
    }
  });
}

/** About five million lines. More would hold up the list of all runs, so no time is shown. */
const LARGEST_TIMES = 2 ** 28;
const LONGEST_TIME = 2 ** 16;
const SECONDS = '"seconds":';
const LONGEST_NUMBER = 40;

/** The row of a folder that could not be read; it is read again next time. */
export function damagedRow(name: string, error: unknown): SummaryCache {
  const nothing = { method: null, model: null, rounds: null, quality: null, seconds: null, changed: null, holder: null };
  return {
    stamp: "damaged",
    summary: { name, ...nothing, state: "damaged", problem: briefly(error) },
    record: { stamp: "", value: NO_RECORD },
    times: { size: 0, seconds: null },
  };
}

/** Whether a signal from this process reaches the holder. */
export function isHere(holder: RunSummary["holder"]): boolean {
  return holder?.host === hostname();
}
