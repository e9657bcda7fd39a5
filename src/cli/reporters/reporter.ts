import type { NewEvent } from "../../server/events.ts";

/** Shows the events of a run. */
export interface Reporter {
  event(event: NewEvent): void;
  /** Safe to call twice. */
  close(): void;
}

/** `columns` and `rows` are set on a terminal. */
export type OutputStream = NodeJS.WritableStream & { readonly columns?: number; readonly rows?: number };

export interface ReporterOptions {
  readonly stream: OutputStream;
}

export interface TimedReporterOptions extends ReporterOptions {
  /** Milliseconds. */
  readonly now?: () => number;
}
