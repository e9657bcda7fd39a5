import type { RunEvent } from "../../server/events.ts";

/** Shows a run to somebody. */
export interface Reporter {
  event(event: RunEvent): void;
  /** Leaves the stream as it should stay. Safe to call twice. */
  close(): void;
}

export interface ReporterOptions {
  readonly stream: NodeJS.WritableStream;
}

/** For reporters that tell how long something took. Milliseconds. */
export interface TimedReporterOptions extends ReporterOptions {
  readonly now?: () => number;
}
