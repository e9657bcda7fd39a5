import { followEvents, forEachEvent } from "../records/event-log.ts";
import { parseEvent, type CheckedEvent } from "./live-event.ts";

/* A run's recorded events, checked. A damaged line is left out. */

/** Gives each in order; the event loop runs meanwhile. */
export async function forEachRecorded(directory: string, each: (event: CheckedEvent) => void): Promise<void> {
  await forEachEvent(directory, (line: unknown) => {
    const event = parseEvent(line);
    if (event) each(event);
  });
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
