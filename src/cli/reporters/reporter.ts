import type { RunEvent } from "../../server/events.ts";

/** Shows a run to somebody. */
export interface Reporter {
  event(event: RunEvent): void;
  /** Leaves the stream as it should stay. Safe to call twice. */
  close(): void;
}

/** `columns` and `rows` are a terminal's. */
export type OutputStream = NodeJS.WritableStream & { readonly columns?: number; readonly rows?: number };

export interface ReporterOptions {
  readonly stream: OutputStream;
}

/** For reporters that tell how long something took. Milliseconds. */
export interface TimedReporterOptions extends ReporterOptions {
  readonly now?: () => number;
}
