interface Instrument {
  /** In UCUM, as OpenTelemetry wants it: `s`, `By`, or `{what is counted}`. */
  readonly unit: string;
  readonly description: string;
}

/** Everything that is counted. Their sums over a run are those of its `metrics.jsonl`. */
export const COUNTERS = {
  "prelort.rounds": { unit: "{round}", description: "Server rounds that were trained, committed and evaluated" },
  "prelort.fits": { unit: "{fit}", description: "Fits whose updates count" },
  "prelort.client.io": {
    unit: "By",
    description: "Bytes of tensors that clients received (transmit) and sent (receive) in rounds that were committed",
  },
  "prelort.task.failures": { unit: "{failure}", description: "Failed attempts of tasks, by kind of task and of error" },
} as const satisfies Readonly<Record<string, Instrument>>;

export const HISTOGRAMS = {
  "prelort.fit.duration": { unit: "s", description: "How long a client's worker trained" },
  "prelort.task.wait_time": { unit: "s", description: "How long an attempt of a task waited for a worker" },
} as const satisfies Readonly<Record<string, Instrument>>;

/** Upper bounds of the histograms' buckets in seconds: from a tiny model's fit to hours. */
export const BUCKETS: readonly number[] = [
  0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000,
];
