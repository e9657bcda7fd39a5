import { statSync } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import path from "node:path";
import { setTimeout } from "node:timers/promises";
import { z } from "zod";
import { type JsonLine, openIfThere, readJsonLines } from "../base/read-file.ts";
import { type LineLog, openLineLog } from "./line-log.ts";
import { isHeld } from "./lock.ts";
import { count } from "./schema.ts";

/*
 * `events.jsonl`: what a run reported while it was under way, one event a line, numbered and with its time. No result depends on
 * it: it is for people, pages and trackers, and a damaged line is left out.
 */

export const EVENTS = "events.jsonl";

const recordedEvent = z.looseObject({ version: count, number: count, at: z.number(), type: z.string() }).readonly();

/** A line of `events.jsonl`. */
export type RecordedEvent = z.output<typeof recordedEvent>;

/** Opens the events of a run to append to, after their first `keep` bytes. */
export function openEventLog(file: string, keep?: number): LineLog<RecordedEvent> {
  return openLineLog(file, { keep, encode: (event) => event });
}

/** What a resumed run finds: the highest number, 0 for none, and where the last complete line ends. */
export async function findLastEvent(file: string): Promise<{ readonly number: number; readonly end: number }> {
  let number = 0;
  const end = await readJsonLines(file, (line) => (number = Math.max(number, parseEvent(line)?.number ?? 0)));
  return { number, end };
}

export interface EventRange {
  /** Events with higher numbers only. All by default. */
  readonly after?: number | undefined;
}

/** The events that a run has recorded, in order. An earlier version recorded none. */
export async function readEvents(directory: string, range: EventRange = {}): Promise<readonly RecordedEvent[]> {
  return (await readFrom(path.join(directory, EVENTS), 0, range.after)).events;
}

/**
 * The events of a run in whatever process it is: those recorded so far, then each as it is recorded. Ends when nobody holds the
 * run's folder, or another run has replaced this one, and all its events were given; or when `signal` aborts.
 */
export async function* followEvents(
  directory: string,
  { after = 0, signal }: EventRange & { readonly signal?: AbortSignal | undefined } = {},
): AsyncGenerator<RecordedEvent, void> {
  const file = path.join(directory, EVENTS);
  let [position, last] = [0, after];
  let log: FileHandle | undefined;
  try {
    for (;;) {
      // Asked first: whatever was written before the run let go of its folder is then read.
      const isHeldStill = await isHeld(directory);
      // Kept open: it can be read to its end even if the run is replaced and removed.
      log ??= await openIfThere(file);
      const isOver = isHeldStill === false || (log !== undefined && !(await isOpenedFrom(log, file)));
      const { events, end } = log ? await readFrom(log, position, last) : { events: [], end: position };
      for (const event of events) {
        if (signal?.aborted) return;
        last = event.number;
        yield event;
      }
      if (signal?.aborted || (isOver && end === position)) return;
      position = end;
      if (!isOver && events.length === 0) await setTimeout(POLL_MS, undefined, { signal }).catch(() => {});
    }
  } finally {
    await log?.close();
  }
}

/** Whether the file of that name is still the one that was opened. */
async function isOpenedFrom(handle: FileHandle, file: string): Promise<boolean> {
  const opened = await handle.stat({ bigint: true });
  const there = statSync(file, { bigint: true, throwIfNoEntry: false });
  return there?.ino === opened.ino && there.dev === opened.dev;
}

/** Folders on other machines tell nobody when a file changes, so it is looked at. */
const POLL_MS = 250;

async function readFrom(
  file: string | FileHandle,
  position: number,
  after = 0,
): Promise<{ readonly events: readonly RecordedEvent[]; readonly end: number }> {
  const events: RecordedEvent[] = [];
  let last = after;
  const end = await readJsonLines(
    file,
    (line) => {
      const event = parseEvent(line);
      if (!event || event.number <= last) return;
      last = event.number;
      events.push(event);
    },
    position,
  );
  return { events, end };
}

function parseEvent({ value }: JsonLine): RecordedEvent | undefined {
  return recordedEvent.safeParse(value).data;
}
