import type { Meter } from "@opentelemetry/api";
import { BUCKETS, COUNTERS, HISTOGRAMS } from "./instruments.ts";
import type { Attributes, Meters } from "./telemetry.ts";

export function createMeters(meter: Meter): Meters {
  const counters = new Map(Object.entries(COUNTERS).map(([name, options]) => [name, meter.createCounter(name, options)]));
  const advice = { explicitBucketBoundaries: [...BUCKETS] };
  const histograms = new Map(
    Object.entries(HISTOGRAMS).map(([name, options]) => [name, meter.createHistogram(name, { ...options, advice })]),
  );
  const having = (common: Attributes): Meters => ({
    count: (name, value, attributes) => counters.get(name)?.add(value, { ...common, ...attributes }),
    record: (name, value, attributes) => histograms.get(name)?.record(value, { ...common, ...attributes }),
    having: (more) => having({ ...common, ...more }),
  });
  return having({});
}
