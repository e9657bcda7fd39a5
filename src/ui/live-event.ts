import { z } from "zod";
import { bestRound } from "../records/best-round.ts";
import { roundMetrics } from "../records/metrics.ts";
import { EVENT_VERSION, type RunEvent } from "../server/events.ts";
import type { LiveEvent } from "./messages.ts";
import { roundRow } from "./round-row.ts";
import { toldRound } from "./told-round.ts";

/* Events as a run directory records them. The directory may be damaged or come from somebody else, so they are checked. */

/** An event with its place in the record. */
export interface CheckedEvent {
  readonly number: number;
  /** Milliseconds since the epoch. */
  readonly at: number;
  /** With the fields that are checked, and no others. */
  readonly event: RunEvent;
  /** What the page needs of it; undefined if nothing. */
  readonly live: LiveEvent | undefined;
}

const line = { version: z.literal(EVENT_VERSION), number: z.number(), at: z.number() };
const task = z.object({ kind: z.string(), round: z.number().optional(), clientId: z.string().optional() });
const recorded = z.discriminatedUnion("type", [
  z.object({ ...line, type: z.literal("run-start"), name: z.string(), directory: z.string(), rounds: z.number() }),
  z.object({ ...line, type: z.literal("phase-start"), phase: z.string() }),
  z.object({
    ...line,
    type: z.literal("worker-status"),
    workerId: z.string(),
    state: z.string(),
    activity: z.string(),
    task: task.nullable(),
    taskId: z.string().nullable(),
    step: z.number().default(0),
    steps: z.number().default(0),
  }),
  z.object({
    ...line,
    type: z.literal("worker-ready"),
    workerId: z.string(),
    host: z.string(),
    device: z.object({ type: z.string(), name: z.string(), memoryBytes: z.number().nullable() }),
  }),
  z.object({ ...line, type: z.literal("round-start"), round: z.number(), clients: z.array(z.unknown()) }),
  z.object({
    ...line,
    type: z.literal("client-fit"),
    round: z.number(),
    clientId: z.string(),
    workerId: z.string(),
    seconds: z.number(),
    // Earlier versions did not record it.
    peakMemoryBytes: z.number().nullable().default(null),
  }),
  z.object({
    ...line,
    type: z.literal("client-failure"),
    round: z.number(),
    clientId: z.string(),
    attempt: z.number(),
    workerId: z.string(),
    error: z.string(),
    willRetry: z.boolean(),
  }),
  z.object({ ...line, type: z.literal("worker-given-up"), workerId: z.string(), error: z.string() }),
  z.object({ ...line, type: z.literal("evaluation-start"), round: z.number() }),
  z.object({
    ...line,
    type: z.literal("round-end"),
    round: z.number(),
    metrics: roundMetrics,
    best: bestRound.optional().catch(undefined),
  }),
  z.object({ ...line, type: z.literal("early-stop"), round: z.number(), reason: z.enum(["target", "patience"]) }),
  z.object({ ...line, type: z.literal("run-end") }),
  z.object({ ...line, type: z.literal("run-failed"), kind: z.string().nullable(), error: z.string() }),
]);

/** Undefined for a line that is no event of this version, and for events that the page does not show. */
export function parseEvent(value: unknown): CheckedEvent | undefined {
  const { data } = recorded.safeParse(value);
  if (!data) return undefined;
  const { number, at } = data;
  return { number, at, event: data as unknown as RunEvent, live: liveOf(data) };
}

/** The first thing that a process says that runs it. */
const FIRST_PHASE: Extract<RunEvent, { type: "phase-start" }>["phase"] = "start workers";

function liveOf(event: z.output<typeof recorded>): LiveEvent | undefined {
  const { at } = event;
  switch (event.type) {
    case "run-end":
      return { type: "run-end", at };
    case "round-start":
      return { type: "round-start", at, round: event.round, clients: event.clients.length };
    case "worker-status": {
      const { workerId, state, activity, task: of } = event;
      const identity = of && { kind: of.kind, round: of.round ?? null, clientId: of.clientId ?? null };
      return { type: "worker-status", at, workerId, state, activity, task: identity };
    }
    case "worker-ready": {
      const { workerId, host, device } = event;
      return { type: "worker-ready", at, workerId, host, device: `${device.name} (${device.type})`, deviceBytes: device.memoryBytes };
    }
    case "client-fit": {
      const { round, clientId, workerId, seconds, peakMemoryBytes } = event;
      return { type: "client-fit", at, round, clientId, workerId, seconds, peakMemoryBytes };
    }
    case "client-failure": {
      const { round, clientId, workerId, attempt, error, willRetry } = event;
      return { type: "client-failure", at, round, clientId, workerId, attempt, error, willRetry };
    }
    case "worker-given-up": {
      const { workerId, error } = event;
      return { type: "client-failure", at, round: null, clientId: null, workerId, attempt: null, error, willRetry: false };
    }
    case "round-end":
      return { type: "round-end", at, row: roundRow(event.metrics), best: event.best ?? null, told: toldRound(event.metrics) };
    case "early-stop":
      return { type: "early-stop", at, stopped: { round: event.round, reason: event.reason } };
    case "run-failed":
      return { type: "run-failed", at, error: event.error };
    case "phase-start":
      return event.phase === FIRST_PHASE ? { type: "session-start", at } : undefined;
    case "run-start":
    case "evaluation-start":
      return undefined;
  }
}
