import { PassThrough } from "node:stream";
import { WriteStream } from "node:tty";
import type { NewEvent } from "../../../../src/server/events.ts";
import type { RoundMetrics } from "../../../../src/records/metrics.ts";
import { named, type WorkerStatus } from "../../../../src/workers/task.ts";
import { tierMetrics } from "../../../support/tier-metrics.ts";

/** The events of a short run: two rounds, in which one client fails once and is retried, and then fails for good. */
export const story: readonly NewEvent[] = [
  { type: "phase-start", phase: "start workers" },
  status("w0", "starting", "importing torch"),
  status("w1", "starting", "importing torch"),
  {
    type: "worker-ready",
    host: "gpu-2",
    workerId: "w0",
    pid: 41,
    versions: { torch: "2.13.0" },
    variables: {},
    device: { type: "cpu", name: "x86_64", capability: null, memoryBytes: null },
  },
  status("w0", "ready", "idle"),
  { type: "phase-start", phase: "prepare data" },
  {
    type: "data-ready",
    clients: [
      { id: "c0", size: 900, r: 4 },
      { id: "c1", size: 300, r: 1 },
    ],
    labels: ["animal", "food"],
    evalExamples: 64,
    truncated: 3,
    remarks: [],
  },
  { type: "run-start", name: "story", directory: "/runs/story", rounds: 2, tiers: [1, 4] },
  { type: "phase-start", phase: "train" },
  { type: "evaluation-start", round: 0 },
  roundEnd(0, [0.25, 0.25], [], []),
  roundStart(1),
  status("w0", "busy", "fit c0", 3, 6),
  {
    type: "client-failure",
    round: 1,
    clientId: "c1",
    attempt: 1,
    workerId: "w1",
    error: "worker w1: exited with 1\n  last lines of its log",
    willRetry: true,
  },
  status("w1", "failed", "exited with 1"),
  { type: "client-fit", round: 1, clientId: "c0", r: 4, workerId: "w0", loss: 1.5, seconds: 3, peakMemoryBytes: null },
  { type: "client-failure", round: 1, clientId: "c1", attempt: 2, workerId: "w0", error: "a value was not finite", willRetry: false },
  { type: "evaluation-start", round: 1 },
  roundEnd(1, [0.5, 0.625], ["c0"], ["c1"]),
  roundStart(2),
  { type: "evaluation-start", round: 2 },
  roundEnd(2, [0.5, 0.75], ["c0", "c1"], []),
  { type: "phase-start", phase: "save" },
  status("w0", "stopped", "stopped"),
  { type: "run-end", directory: "/runs/story", adapters: ["/runs/story/adapters/r1", "/runs/story/adapters/r4"], sha256: "ab" },
];

const HOSTILE = "\u001B[2J\u009B1m\u202Eevil\r\n";
/** The same run with control characters in the names of data, workers and files. */
export const hostileStory: readonly NewEvent[] = JSON.parse(
  JSON.stringify(story).replaceAll(
    /"(c[01]|w[01]|torch|animal|\/runs\/story|importing torch|a value was not finite)"/g,
    (_, name: string) => JSON.stringify(`${name}${HOSTILE}`),
  ),
) as readonly NewEvent[];

export function status(workerId: string, state: WorkerStatus["state"], activity: string, step = 0, steps = 0): NewEvent {
  const client = /^fit (.+)$/.exec(activity)?.[1];
  const { identity: task, id: taskId } =
    client === undefined ? { identity: null, id: null } : named({ kind: "fit", round: 1, clientId: client });
  return { type: "worker-status", workerId, state, activity, task, taskId, step, steps };
}

export function roundStart(round: number): NewEvent {
  return {
    type: "round-start",
    round,
    clients: [
      { id: "c0", r: 4 },
      { id: "c1", r: 1 },
    ],
  };
}

export function roundEnd(round: number, accuracies: readonly number[], reported: readonly string[], failed: readonly string[]): NewEvent {
  const byTier = accuracies.map((accuracy, index) =>
    tierMetrics([1, 4][index] ?? 0, { loss: 2 - accuracy, accuracy, macroF1: accuracy, examples: 64 }),
  );
  const metrics: RoundMetrics = {
    round,
    byTier,
    merged: null,
    byClient: [],
    energy: [],
    fitLoss: round === 0 ? null : 1.5,
    reported,
    failed,
    late: [],
    coverage: [],
    passes: 6,
    bytesDown: 8,
    bytesUp: 8,
  };
  return { type: "round-end", round, metrics, sha256: "ab" };
}

/** A stream that records every write; with `columns` it acts as a terminal. */
export function recordingStream(columns?: number): NodeJS.WritableStream & { readonly writes: readonly string[] } {
  const writes: string[] = [];
  const stream = new PassThrough();
  stream.on("data", (data: Buffer) => writes.push(data.toString()));
  const { hasColors, getColorDepth } = WriteStream.prototype;
  return Object.assign(stream, { writes }, columns === undefined ? {} : { isTTY: true, columns, rows: 40, hasColors, getColorDepth });
}

/** A clock that advances by that many milliseconds at each look. */
export function tickingClock(milliseconds: number): () => number {
  let time = 0;
  return () => (time += milliseconds);
}
