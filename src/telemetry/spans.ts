import type * as OpenTelemetry from "@opentelemetry/api";
import { errorMessage, errorType } from "./describe-error.ts";
import type { Attributes, Span, SpanName, Trace } from "./telemetry.ts";

export interface Tracing {
  readonly api: typeof OpenTelemetry;
  readonly tracer: OpenTelemetry.Tracer;
}

/** They wait for answers of workers, whose own spans are parts of them. */
const REMOTE: readonly SpanName[] = ["prelort.fit", "prelort.evaluation"];

/** Spans that begin in this context. `parts` are those under way. */
export function createTrace(tracing: Tracing, context: OpenTelemetry.Context, parts = new Set<Span>()): Trace {
  const begin = (name: SpanName, attributes: Attributes) => {
    const begun = createSpan(tracing, context, { name, attributes, isOver: () => parts.delete(begun.span) });
    parts.add(begun.span);
    return begun;
  };
  return {
    begin: (name, attributes) => begin(name, attributes).span,
    async during(name, attributes, work) {
      const { span, within } = begin(name, attributes);
      try {
        const result = await tracing.api.context.with(within, work, undefined, span);
        span.end();
        return result;
      } catch (error) {
        span.end(error);
        throw error;
      }
    },
  };
}

interface Beginning {
  readonly name: SpanName;
  readonly attributes: Attributes;
  isOver(): void;
}

function createSpan(
  tracing: Tracing,
  context: OpenTelemetry.Context,
  { name, attributes, isOver }: Beginning,
): { span: Span; within: OpenTelemetry.Context } {
  const { trace, SpanKind, SpanStatusCode } = tracing.api;
  const kind = REMOTE.includes(name) ? SpanKind.CLIENT : SpanKind.INTERNAL;
  const recorded = tracing.tracer.startSpan(name, { kind, attributes }, context);
  const within = trace.setSpan(context, recorded);
  const parts = new Set<Span>();
  let hasEnded = false;
  const span: Span = {
    ...createTrace(tracing, within, parts),
    traceparent: traceparentOf(tracing, recorded.spanContext()),
    set(more) {
      if (!hasEnded) recorded.setAttributes(more);
    },
    event(happened, details) {
      if (!hasEnded) recorded.addEvent(happened, details);
    },
    end(error) {
      if (hasEnded) return;
      hasEnded = true;
      for (const part of parts) part.end(error);
      if (error !== undefined) {
        recorded.setStatus({ code: SpanStatusCode.ERROR, message: errorMessage(error) });
        recorded.setAttribute("error.type", errorType(error));
      }
      recorded.end();
      isOver();
    },
  };
  return { span, within };
}

/** Undefined without a tracer, unless the caller's span comes from elsewhere. */
function traceparentOf({ api }: Tracing, context: OpenTelemetry.SpanContext): string | undefined {
  const { traceId, spanId, traceFlags } = context;
  return api.isSpanContextValid(context) ? `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, "0")}` : undefined;
}
