import { type Continuation, followEvents, forEachEvent } from "../records/event-log.ts";
import { parseEvent, type CheckedEvent } from "./live-event.ts";

/* A run's recorded events, checked. A damaged line is left out. */

/** Gives each in order; the event loop runs meanwhile. Returns where the last complete line ends. */
export async function forEachRecorded(directory: string, from: Continuation, each: (event: CheckedEvent) => void): Promise<number> {
  return forEachEvent(directory, from, (line: unknown) => {
    const event = parseEvent(line);
    if (event) each(event);
  });
}

/** Ends when nobody holds the run any more, or when `signal` is aborted. */
export async function* followRecorded(
  directory: string,
  options: Continuation & { readonly signal: AbortSignal },
): AsyncGenerator<CheckedEvent> {
  for await (const line of followEvents(directory, options)) {
    const event = parseEvent(line);
    if (event) yield event;
  }
}
