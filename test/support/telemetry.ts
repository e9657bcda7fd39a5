import { context, metrics, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { type DataPoint, type Histogram, MeterProvider, MetricReader, type MetricData } from "@opentelemetry/sdk-metrics";
import { BasicTracerProvider, type ReadableSpan } from "@opentelemetry/sdk-trace-base";

export interface Recorded {
  /** Every span that has begun, in that order. */
  readonly spans: readonly ReadableSpan[];
  /** What an instrument has recorded. */
  read(instrument: string): Promise<Pick<MetricData, "descriptor"> & { readonly points: readonly DataPoint<number | Histogram>[] }>;
  /** Sum of a counter over the points that have these attributes. */
  sum(counter: string, attributes?: Readonly<Record<string, string | number>>): Promise<number>;
}

class Reader extends MetricReader {
  protected async onForceFlush(): Promise<void> {}
  protected async onShutdown(): Promise<void> {}
}

/** Registers an OpenTelemetry SDK that records in memory, until `unregister`. */
export function registerSdk(): Recorded {
  const spans: ReadableSpan[] = [];
  const spanProcessor = {
    onStart: (span: ReadableSpan) => void spans.push(span),
    onEnd() {},
    forceFlush: async () => {},
    shutdown: async () => {},
  };
  const reader = new Reader();
  trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [spanProcessor] }));
  metrics.setGlobalMeterProvider(new MeterProvider({ readers: [reader] }));
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());

  const read = async (instrument: string) => {
    const { resourceMetrics, errors } = await reader.collect();
    if (errors.length > 0) throw errors[0];
    const data = resourceMetrics.scopeMetrics.flatMap((scope) => scope.metrics).find(({ descriptor }) => descriptor.name === instrument);
    if (!data) throw new Error(`${instrument} has recorded nothing`);
    return { descriptor: data.descriptor, points: data.dataPoints as readonly DataPoint<number | Histogram>[] };
  };
  return {
    spans,
    read,
    async sum(counter, attributes = {}) {
      const { points } = await read(counter);
      const matching = points.filter((point) => Object.entries(attributes).every(([key, value]) => point.attributes[key] === value));
      return matching.reduce((sum, { value }) => sum + (value as number), 0);
    },
  };
}

export function unregisterSdk(): void {
  trace.disable();
  metrics.disable();
  context.disable();
}

/** A span with those that it is the parent of. */
export interface SpanTree {
  readonly span: ReadableSpan;
  readonly parts: readonly SpanTree[];
}

export function treeOf(span: ReadableSpan, all: readonly ReadableSpan[]): SpanTree {
  const { spanId, traceId } = span.spanContext();
  const parts = all.filter(({ parentSpanContext: parent }) => parent?.spanId === spanId && parent.traceId === traceId);
  return { span, parts: parts.map((part) => treeOf(part, all)) };
}

/** `name { part × n, … }`, with parts in alphabetical order. */
export function spell({ span, parts }: SpanTree): string {
  const counts = new Map<string, number>();
  for (const part of parts.map(spell)) counts.set(part, (counts.get(part) ?? 0) + 1);
  const spelled = [...counts].map(([part, count]) => (count === 1 ? part : `${count} × ${part}`)).toSorted();
  return parts.length === 0 ? span.name : `${span.name} { ${spelled.join(", ")} }`;
}
