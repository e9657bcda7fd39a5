import type { COUNTERS, HISTOGRAMS } from "./instruments.ts";

export type Attributes = Readonly<Record<string, string | number | boolean>>;

export type SpanName =
  | "prelort.run"
  | "prelort.start"
  | "prelort.round"
  | "prelort.selection"
  | "prelort.fit"
  | "prelort.aggregation"
  | "prelort.evaluation";

/** Where spans begin. */
export interface Trace {
  /** Begins a span, does the work as a part of it, and ends it; if the work rejects, with that error. */
  during<T>(name: SpanName, attributes: Attributes, work: (span: Span) => Promise<T>): Promise<T>;
  /** A span that ends when told to, or with the span that it is a part of. */
  begin(name: SpanName, attributes: Attributes): Span;
}

/** A stretch of work in a trace. Once it has ended, nothing can be added to it. */
export interface Span extends Trace {
  /** What another process needs to add to it, as W3C's Trace Context spells it; undefined if nothing is traced. */
  readonly traceparent: string | undefined;
  set(attributes: Attributes): void;
  event(name: string, attributes: Attributes): void;
  /** Safe to call twice. With an error, it has failed. Parts of it that are under way end likewise. */
  end(error?: unknown): void;
}

export interface Meters {
  count(counter: keyof typeof COUNTERS, value: number, attributes?: Attributes): void;
  record(histogram: keyof typeof HISTOGRAMS, value: number, attributes?: Attributes): void;
  /** With these attributes on everything. */
  having(attributes: Attributes): Meters;
}

export interface Telemetry {
  /** Spans that begin here are part of what the caller does. */
  readonly trace: Trace;
  readonly meters: Meters;
}

/** Of what nobody traces. */
export const NO_SPAN: Span = {
  traceparent: undefined,
  during: (_name, _attributes, work) => work(NO_SPAN),
  begin: () => NO_SPAN,
  set() {},
  event() {},
  end() {},
};

export const NO_METERS: Meters = { count() {}, record() {}, having: () => NO_METERS };

export const NO_TELEMETRY: Telemetry = { trace: NO_SPAN, meters: NO_METERS };
