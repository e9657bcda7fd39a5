import { statSync } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import path from "node:path";
import { setTimeout } from "node:timers/promises";
import { type JsonLine, jsonLines, openIfThere, readJsonLines } from "../base/read-file.ts";
import { type LineLog, openLineLog } from "./line-log.ts";
import { isHeld } from "./lock.ts";

/*
 * `events.jsonl`: what a run reported while it was under way, one event a line, numbered and with its time. No result depends on
 * it: it is for people, pages and trackers, and a damaged line is left out.
 */

export const EVENTS = "events.jsonl";

/** A line of `events.jsonl`. */
export interface RecordedEvent extends Readonly<Record<string, unknown>> {
  readonly version: number;
  readonly number: number;
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly type: string;
}

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

export interface ReadOptions {
  /** Only events with higher numbers, for a reader that has seen earlier ones. */
  readonly after?: number | undefined;
  /** Ends the iteration when it aborts, also while it waits for the next event. */
  readonly signal?: AbortSignal | undefined;
}

/** The first `most` or more recorded events after a number, in order. An earlier version recorded none. */
export async function readEvents(directory: string, after: number, most: number): Promise<readonly RecordedEvent[]> {
  const found: RecordedEvent[] = [];
  for await (const { events } of eventsFrom(path.join(directory, EVENTS), 0, after)) {
    for (const event of events) found.push(event);
    if (found.length >= most) break;
  }
  return found;
}

/** Where a reader that has read a part of the file continues. */
export interface Continuation {
  /** Number of the last event that it has. */
  readonly after: number;
  /** Where that one's line ends, in bytes, or an earlier line. */
  readonly position: number;
}

/**
 * All recorded events one by one, without holding all of them, and letting the event loop run meanwhile. Returns where the last
 * complete line ends.
 */
export async function forEachEvent(
  directory: string,
  { after, position }: Continuation,
  each: (event: RecordedEvent) => void,
): Promise<number> {
  let last = position;
  for await (const { events, end } of eventsFrom(path.join(directory, EVENTS), position, after)) {
    for (const event of events) each(event);
    last = end;
  }
  return last;
}

/**
 * The events of a run in whatever process it is: those recorded so far, then each as it is recorded. Ends when nobody holds the
 * run's folder, or another run has replaced this one, and all its events were given; or when `signal` aborts.
 */
export async function* followEvents(
  directory: string,
  { after = 0, signal, position: start = 0 }: ReadOptions & Partial<Pick<Continuation, "position">> = {},
): AsyncGenerator<RecordedEvent, void> {
  const file = path.join(directory, EVENTS);
  let [position, last] = [start, after];
  let log: FileHandle | undefined;
  try {
    for (;;) {
      // Asked first: whatever was written before the run let go of its folder is then read.
      const holder = await isHeld(directory);
      // Kept open: it can be read to its end even if the run is replaced and removed.
      log ??= await openIfThere(file);
      const isOver = holder === false || (log !== undefined && !(await isOpenedFrom(log, file)));
      const before = { position, last };
      for await (const { events, end } of eventsFrom(file, position, last, log)) {
        for (const event of events) {
          if (signal?.aborted) return;
          last = event.number;
          yield event;
        }
        position = end;
      }
      if (signal?.aborted || (isOver && position === before.position)) return;
      if (!isOver && last === before.last) await setTimeout(POLL_MS, undefined, { signal }).catch(() => {});
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

/** In pieces: a long run has hundreds of MB of events. `end` is where the last complete line of a piece ends. */
async function* eventsFrom(
  file: string,
  position: number,
  after: number,
  opened?: FileHandle,
): AsyncGenerator<{ readonly events: readonly RecordedEvent[]; readonly end: number }, void> {
  let last = after;
  for await (const { lines, end } of jsonLines(file, position, opened)) {
    const events: RecordedEvent[] = [];
    for (const line of lines) {
      const event = parseEvent(line);
      if (!event || event.number <= last) continue;
      last = event.number;
      events.push(event);
    }
    yield { events, end };
  }
}

/** Without a schema, which would copy it: a long run has a million. */
function parseEvent({ value }: JsonLine): RecordedEvent | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const { version, number, at, type } = value as Readonly<Record<string, unknown>>;
  return isCount(version) && isCount(number) && Number.isFinite(at) && typeof type === "string" ? (value as RecordedEvent) : undefined;
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
