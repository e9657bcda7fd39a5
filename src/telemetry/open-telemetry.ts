import { createRequire } from "node:module";
import type * as OpenTelemetry from "@opentelemetry/api";
import { packageVersion } from "../installation.ts";
import { createMeters } from "./meters.ts";
import { createTrace } from "./spans.ts";
import { NO_TELEMETRY, type Telemetry } from "./telemetry.ts";

/** Where every copy of OpenTelemetry's API 1.x keeps what an SDK has registered; missing if none has. */
const REGISTRY = Symbol.for("opentelemetry.js.api.1");
const NAME = "prelort";

/**
 * Telemetry for the OpenTelemetry SDK that this process has registered, as part of the caller's active span. Without an SDK, or
 * without the optional package `@opentelemetry/api`, nothing is imported and nothing is done.
 */
export function findTelemetry(): Telemetry {
  const api = REGISTRY in globalThis ? loadApi() : undefined;
  if (!api) return NO_TELEMETRY;
  const version = packageVersion();
  return {
    trace: createTrace({ api, tracer: api.trace.getTracer(NAME, version) }, api.context.active()),
    meters: createMeters(api.metrics.getMeter(NAME, version)),
  };
}

function loadApi(): typeof OpenTelemetry | undefined {
  try {
    // Not import(), which would take a moment, while the caller's active span must be asked for at once.
    return createRequire(import.meta.url)("@opentelemetry/api") as typeof OpenTelemetry;
  } catch {
    return undefined;
  }
}
