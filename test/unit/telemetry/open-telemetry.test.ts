import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import type { ReadableSpan } from "@opentelemetry/sdk-trace-base";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import {
  createPool,
  federate,
  powerOfChoiceSelection,
  type RunEvent,
  segmentWise,
  WorkerError,
  type WorkerLauncher,
} from "../../../src/index.ts";
import type * as Codec from "../../../src/protocol/codec.ts";
import type { ControllerMessage } from "../../../src/protocol/messages.ts";
import type { RoundMetrics } from "../../../src/records/metrics.ts";
import { tinyLauncher, tinyRun, type TinyRunOptions } from "../../../src/testing/index.ts";
import { type Recorded, registerSdk, spell, treeOf, unregisterSdk } from "../../support/telemetry.ts";

/** What workers have received. */
const received: ControllerMessage[] = [];
vi.mock("../../../src/protocol/codec.ts", async (load) => {
  const codec = await load<typeof Codec>();
  const decodeControllerMessage: typeof codec.decodeControllerMessage = (...frames) => {
    const message = codec.decodeControllerMessage(...frames);
    received.push(message);
    return message;
  };
  return { ...codec, decodeControllerMessage };
});

let runsDir: string;
let recorded: Recorded;
beforeEach(() => {
  runsDir = mkdtempSync(path.join(tmpdir(), "prelort-telemetry-"));
  recorded = registerSdk();
  received.length = 0;
});
afterEach(() => {
  unregisterSdk();
  rmSync(runsDir, { recursive: true });
});

const start = (more: Omit<TinyRunOptions, "runsDir"> = {}) => federate(tinyRun({ runsDir, name: "a", seed: 7, rounds: 2, ...more }));

async function collect(events: AsyncIterable<RunEvent>): Promise<readonly RunEvent[]> {
  const seen: RunEvent[] = [];
  for await (const event of events) seen.push(event);
  return seen;
}

function named(name: string): readonly ReadableSpan[] {
  return recorded.spans.filter((span) => span.name === name);
}

function fitOf(clientId: string, round: number): ReadableSpan {
  const isIt = ({ attributes }: ReadableSpan) => attributes["prelort.client.id"] === clientId && attributes["prelort.round"] === round;
  const [span] = named("prelort.fit").filter(isIt);
  if (!span) throw new Error(`no span of ${clientId} in round ${round}`);
  return span;
}

function traceparentOf(span: ReadableSpan): string {
  const { traceId, spanId } = span.spanContext();
  return `00-${traceId}-${spanId}-01`;
}

const isUnder = (run: ReadableSpan, caller: ReadableSpan) => run.parentSpanContext?.spanId === caller.spanContext().spanId;

test("a run's spans are a tree under the caller's active span: start, rounds, and each round's fits and evaluation", async () => {
  const caller = await trace.getTracer("caller").startActiveSpan("caller", async (span) => {
    await start().result;
    span.end();
    return span as unknown as ReadableSpan;
  });
  const round = "prelort.round { 8 × prelort.fit, prelort.aggregation, prelort.evaluation, prelort.selection }";
  expect(spell(treeOf(caller, recorded.spans))).toBe(
    `caller { prelort.run { 2 × ${round}, prelort.round { prelort.evaluation }, prelort.start } }`,
  );
  expect(recorded.spans.filter(({ ended }) => !ended)).toEqual([]);
  expect(recorded.spans.filter(({ status }) => status.code !== SpanStatusCode.UNSET)).toEqual([]);
});

test("without an active span, a run begins a trace of its own", async () => {
  await Promise.all([start().result, start({ name: "b" }).result]);
  const runs = named("prelort.run");
  expect(runs.map(({ parentSpanContext }) => parentSpanContext)).toEqual([undefined, undefined]);
  expect(new Set(recorded.spans.map((span) => span.spanContext().traceId)).size).toBe(2);
  expect(runs.map(({ attributes }) => attributes)).toEqual([{ "prelort.run.name": "a" }, { "prelort.run.name": "b" }]);
});

test("spans have the round, client, rank, worker and attempt that the run's events have", async () => {
  const run = start();
  const events = await collect(run);
  const fits = events.flatMap((event) =>
    event.type === "client-fit"
      ? [
          {
            "prelort.round": event.round,
            "prelort.client.id": event.clientId,
            "prelort.rank": event.r,
            "prelort.worker.id": event.workerId,
            "prelort.attempt": 1,
          },
        ]
      : [],
  );
  expect(fits.length).toBe(16);
  const spans = named("prelort.fit");
  expect(spans.map(({ attributes }) => attributes)).toEqual(expect.arrayContaining(fits));
  expect(new Set(spans.map(({ kind }) => kind))).toEqual(new Set([SpanKind.CLIENT]));
  expect(named("prelort.round").map(({ attributes }) => attributes)).toEqual(
    [0, 8, 8].map((reported, round) => ({
      "prelort.round": round,
      "prelort.reported": reported,
      "prelort.failed": 0,
      "prelort.late": 0,
    })),
  );
  expect(named("prelort.evaluation").map(({ attributes }) => attributes)).toEqual([0, 1, 2].map((round) => ({ "prelort.round": round })));
});

test("a retried fit is one span with its failed attempt as an event; a client that fails every attempt has failed", async () => {
  const launcher = tinyLauncher({
    fit({ clientId, round, attempt, train }) {
      if (round === 1 && (clientId === "c5" || (clientId === "c3" && attempt === 1))) throw new Error(`${clientId} is out of battery`);
      return train();
    },
  });
  const run = start({ launcher, workers: { count: 2, devices: ["cpu"], retries: 1 } });
  const failures = (await collect(run)).filter((event) => event.type === "client-failure");
  const attempts = (clientId: string) =>
    failures
      .filter((event) => event.clientId === clientId)
      .map(({ attempt, workerId, willRetry }) => ({
        name: "exception",
        attributes: {
          "exception.type": "WorkerError",
          "exception.message": expect.stringContaining(`${clientId} is out of battery`),
          "error.type": "worker",
          "prelort.attempt": attempt,
          "prelort.worker.id": workerId,
          "prelort.will_retry": willRetry,
        },
      }));
  expect(fitOf("c3", 1)).toMatchObject({ status: { code: SpanStatusCode.UNSET }, attributes: { "prelort.attempt": 2 } });
  expect(fitOf("c3", 1).events).toMatchObject(attempts("c3"));
  expect(fitOf("c5", 1)).toMatchObject({
    status: { code: SpanStatusCode.ERROR, message: expect.stringContaining("c5 is out of battery") },
    attributes: { "error.type": "worker" },
  });
  expect(fitOf("c5", 1).events).toMatchObject(attempts("c5"));
  expect([attempts("c3").length, attempts("c5").length]).toEqual([1, 2]);
  const rounds = named("prelort.round").map(({ attributes, status }) => [attributes["prelort.failed"], status.code]);
  expect(rounds).toEqual([0, 1, 0].map((failed) => [failed, SpanStatusCode.UNSET]));
  expect(await recorded.sum("prelort.task.failures", { "prelort.task.kind": "fit", "error.type": "worker" })).toBe(3);
  expect(await recorded.sum("prelort.task.failures")).toBe(3);
  expect(await recorded.sum("prelort.fits")).toBe(15);
});

test("the sums of counters are those of metrics.jsonl, and every fit has a duration and every task a wait", async () => {
  const { directory } = await start({ rounds: 3 }).result;
  const lines = readFileSync(path.join(directory, "metrics.jsonl"), "utf8").trim().split("\n");
  const metrics = lines.map(
    (line) => JSON.parse(line) as Pick<RoundMetrics, "round" | "reported"> & { bytes_down: number; bytes_up: number },
  );
  const total = (of: (line: (typeof metrics)[number]) => number) => metrics.reduce((sum, line) => sum + of(line), 0);
  const run = { "prelort.run.name": "a" };
  expect(await recorded.sum("prelort.rounds", run)).toBe(3);
  expect(await recorded.sum("prelort.fits", run)).toBe(total(({ reported }) => reported.length));
  expect(total((line) => line.bytes_down)).toBeGreaterThan(0);
  expect(await recorded.sum("prelort.client.io", { ...run, "network.io.direction": "transmit" })).toBe(total((line) => line.bytes_down));
  expect(await recorded.sum("prelort.client.io", { ...run, "network.io.direction": "receive" })).toBe(total((line) => line.bytes_up));

  const durations = await recorded.read("prelort.fit.duration");
  expect(durations.descriptor.unit).toBe("s");
  // Of tiny workers' fits, each reports 0.001 s.
  expect(durations.points.map(({ attributes, value }) => [attributes["prelort.rank"], value])).toEqual(
    expect.arrayContaining([1, 2, 4, 8].map((r) => [r, expect.objectContaining({ count: 6, sum: expect.closeTo(0.006, 12) })])),
  );
  const waits = (await recorded.read("prelort.task.wait_time")).points;
  const kinds = new Map(waits.map(({ attributes, value }) => [attributes["prelort.task.kind"], (value as { count: number }).count]));
  expect([kinds.get("prepare"), kinds.get("fit")]).toEqual([1, 24]);
});

test("a run on a shared pool measures how long its own tasks wait", async () => {
  const { workers, launcher, ...options } = tinyRun({ runsDir, name: "pooled", seed: 7, rounds: 2 });
  const pool = await createPool({ workers, launcher });
  try {
    await Promise.all(["one", "two"].map((name) => federate({ ...options, name, pool }).result));
  } finally {
    await pool.close();
  }
  const { points } = await recorded.read("prelort.task.wait_time");
  const fits = points.filter(({ attributes }) => attributes["prelort.task.kind"] === "fit");
  const counts = new Map(fits.map(({ attributes, value }) => [attributes["prelort.run.name"], (value as { count: number }).count]));
  expect(counts).toEqual(
    new Map([
      ["one", 16],
      ["two", 16],
    ]),
  );
});

test("each task tells its worker the span that it is a part of, the same one when it is retried", async () => {
  const launcher = tinyLauncher({
    fit({ clientId, attempt, train }) {
      if (clientId === "c3" && attempt === 1) throw new Error("c3 is out of battery");
      return train();
    },
  });
  const selection = powerOfChoiceSelection({ candidates: 8, fraction: 1 });
  await start({ launcher, strategy: { selection } }).result;
  const spans = new Map(recorded.spans.map((span) => [traceparentOf(span), span]));
  const told = received.flatMap((message) => {
    if (!("traceparent" in message)) return [];
    const { name, attributes } = spans.get(message.traceparent ?? "") ?? {};
    const clientId = message.type === "fit" ? message.client_id : undefined;
    const round = "round" in message ? message.round : undefined;
    expect([attributes?.["prelort.client.id"], attributes?.["prelort.round"]]).toEqual([clientId, round]);
    return `${message.type === "evaluate" ? `evaluate ${message.examples}` : message.type} in ${name}`;
  });
  const counts = Object.fromEntries([...new Set(told)].map((each) => [each, told.filter((other) => other === each).length]));
  expect(counts).toEqual({
    "prepare in prelort.start": 1,
    // One for each worker, of which the second may come late.
    "load in prelort.start": expect.any(Number),
    "fit in prelort.fit": 2 * 8 + 2,
    "evaluate train in prelort.selection": 2 * 8,
    "evaluate global in prelort.evaluation": 3,
  });
});

test("with partial sums, workers are told the round that a sum belongs to", async () => {
  await start({ partialSums: true }).result;
  const rounds = named("prelort.round").map(traceparentOf);
  const sums = received.flatMap((message) => (message.type === "collect" ? [[message.basis.round, message.traceparent]] : []));
  expect(new Set(sums.map(([round]) => round))).toEqual(new Set([1, 2]));
  expect(sums).toEqual(sums.map(([round]) => [round, rounds[round as number]]));
  expect(await recorded.sum("prelort.fits")).toBe(16);
});

test("a fit that is done again since its update was lost with its worker stays one span", async () => {
  const latest: ReturnType<WorkerLauncher["launch"]>[] = [];
  let fits = 0;
  const inner = tinyLauncher({
    fit({ train }) {
      if (++fits !== 4) return train();
      latest.at(-1)?.kill();
      return new Promise(() => {});
    },
  });
  const launcher: WorkerLauncher = {
    launch(options) {
      const worker = inner.launch(options);
      latest.push(worker);
      return worker;
    },
  };
  await start({ rounds: 1, launcher, workers: { count: 1, devices: ["cpu"] }, partialSums: { every: 8 } }).result;
  const lost = named("prelort.fit").filter(({ events }) => events.some(({ name }) => name === "prelort.update.lost"));
  // The worker's first two updates were taken before it was given its fourth client.
  expect(lost.length).toBeGreaterThanOrEqual(2);
  for (const { events, attributes, status } of lost) {
    expect(events).toMatchObject([{ attributes: { "prelort.attempt": 1, "prelort.worker.id": "w0" } }]);
    expect(attributes).toMatchObject({ "prelort.attempt": 2, "prelort.worker.id": "w0.1" });
    expect(status.code).toBe(SpanStatusCode.UNSET);
  }
  expect(named("prelort.fit").length).toBe(8);
  expect(await recorded.sum("prelort.fits")).toBe(8);
});

test("spans of a policy of one's own are parts of what it does", async () => {
  const { begin, ...rest } = segmentWise();
  const aggregation: ReturnType<typeof segmentWise> = {
    ...rest,
    begin(round) {
      const { finish, ...sum } = begin(round);
      return {
        ...sum,
        finish: () =>
          trace.getTracer("mine").startActiveSpan("mine", (span) => {
            span.end();
            return finish();
          }),
      };
    },
  };
  await start({ rounds: 1, strategy: { aggregation } }).result;
  const [mine, aggregating] = [named("mine"), named("prelort.aggregation")];
  expect(mine.length).toBe(1);
  expect(isUnder(mine[0] as ReadableSpan, aggregating[0] as ReadableSpan)).toBe(true);
});

test.each(["during its fits", "before its workers are up"])("all spans of a run that is stopped %s end as interrupted", async (when) => {
  const run = start({ rounds: 100 });
  for await (const event of run) if (event.type === (when === "during its fits" ? "client-fit" : "phase-start")) break;
  await run.stop();
  await expect(run.result).rejects.toThrow();
  expect(recorded.spans.filter(({ ended }) => !ended)).toEqual([]);
  expect(named("prelort.run")).toMatchObject([{ status: { code: SpanStatusCode.ERROR }, attributes: { "error.type": "interrupted" } }]);
  const failed = recorded.spans.filter(({ status }) => status.code === SpanStatusCode.ERROR);
  expect(new Set(failed.map(({ attributes }) => attributes["error.type"]))).toEqual(new Set(["interrupted"]));
  if (when === "during its fits") expect(failed.map(({ name }) => name)).toContain("prelort.round");
});

test("a run that is stopped and resumed counts every fit and round once, and evaluates the last round in a span of that round", async () => {
  const run = start();
  let fits = 0;
  for await (const event of run) if (event.type === "client-fit" && ++fits === 11) break;
  await run.stop();
  const { metrics } = await start({ resume: true }).result;
  expect(metrics.length).toBe(3);
  expect(await recorded.sum("prelort.fits")).toBe(16);
  expect(await recorded.sum("prelort.rounds")).toBe(2);
  const resumed = named("prelort.run")[1] as ReadableSpan;
  expect(spell(treeOf(resumed, recorded.spans))).toMatch(/^prelort.run { prelort.round { .*prelort.evaluation.* }, .*prelort.start }$/);
  expect(resumed.status.code).toBe(SpanStatusCode.UNSET);
});

test("a policy that throws fails its own span, its round and the run, and all spans end", async () => {
  const { begin, ...rest } = segmentWise();
  const aggregation: ReturnType<typeof segmentWise> = {
    ...rest,
    begin: (round) => ({
      ...begin(round),
      finish: () => {
        throw new Error("no more ideas");
      },
    }),
  };
  await expect(start({ strategy: { aggregation } }).result).rejects.toThrow("no more ideas");
  expect(recorded.spans.filter(({ ended }) => !ended)).toEqual([]);
  const failed = recorded.spans.filter(({ status }) => status.code === SpanStatusCode.ERROR);
  expect(failed.map(({ name }) => name).toSorted()).toEqual(["prelort.aggregation", "prelort.round", "prelort.run"]);
  expect(failed.map(({ status }) => status.message)).toEqual(failed.map(() => expect.stringContaining("no more ideas")));
  expect(new Set(failed.map(({ attributes }) => attributes["error.type"]))).toEqual(new Set(["run"]));
});

test("a run whose workers cannot be started fails in its start", async () => {
  const launch = () => {
    throw new WorkerError("cannot be started", { workerId: "w0" });
  };
  await expect(start({ launcher: { launch } }).result).rejects.toThrow("cannot be started");
  const states = recorded.spans.map(({ name, ended, status }) => [name, ended, status.code]);
  expect(states).toEqual(["prelort.run", "prelort.start"].map((name) => [name, true, SpanStatusCode.ERROR]));
});
