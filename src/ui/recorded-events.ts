import { followEvents, readEvents } from "../records/event-log.ts";
import { parseEvent, type CheckedEvent } from "./live-event.ts";

/* A run's recorded events, checked. A damaged line is left out. */

export async function recordedEvents(directory: string): Promise<readonly CheckedEvent[]> {
  const lines: readonly unknown[] = await readEvents(directory);
  return lines.flatMap((line) => parseEvent(line) ?? []);
}

/** Ends when nobody holds the run any more, or when `signal` is aborted. */
export async function* followRecorded(
  directory: string,
  options: { readonly after: number; readonly signal: AbortSignal },
): AsyncGenerator<CheckedEvent> {
  for await (const line of followEvents(directory, options)) {
    const event = parseEvent(line);
    if (event) yield event;
  }
}
