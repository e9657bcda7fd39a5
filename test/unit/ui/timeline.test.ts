import { expect, test } from "vitest";
import type { LiveEvent, TimelineData } from "../../../src/ui/messages.ts";
import { lastSpans, Timeline } from "../../../src/ui/timeline.ts";

const start = { type: "session-start", at: 1000 } as const;
const busy = (at: number, workerId: string, clientId: string, round = 1): LiveEvent => ({
  type: "worker-status",
  at,
  workerId,
  state: "busy",
  activity: `fit ${clientId}`,
  task: { kind: "fit", round, clientId },
});
const ready = (at: number, workerId: string): LiveEvent => ({
  type: "worker-status",
  at,
  workerId,
  state: "ready",
  activity: "idle",
  task: null,
});
const fit = (at: number, workerId: string, clientId: string, round = 1, seconds = 1): LiveEvent => ({
  type: "client-fit",
  at,
  workerId,
  clientId,
  round,
  seconds,
  peakMemoryBytes: null,
});
const failure = (at: number, workerId: string, clientId: string, willRetry: boolean): LiveEvent => ({
  type: "client-failure",
  at,
  round: 1,
  clientId,
  workerId,
  attempt: 1,
  error: "died",
  willRetry,
});

function spansOf(events: readonly LiveEvent[]) {
  const timeline = new Timeline();
  for (const event of events) timeline.advance(event);
  return timeline.data.spans;
}

test("a fit lasts from its worker's becoming busy to its becoming ready, and an answer that arrives later still counts for it", () => {
  const spans = spansOf([start, busy(1100, "w0", "c1"), ready(1900, "w0"), fit(2000, "w0", "c1")]);
  expect(spans).toEqual([{ worker: 0, what: "c1", isFit: true, round: 1, attempt: 1, from: 100, to: 900, outcome: "trained" }]);
});

test("another activity of the same task does not begin another span", () => {
  const again: LiveEvent = { ...busy(1500, "w0", "c1"), activity: "saving" } as LiveEvent;
  expect(spansOf([start, busy(1100, "w0", "c1"), again, fit(1800, "w0", "c1"), ready(1900, "w0")])).toHaveLength(1);
});

test("a failed attempt that is tried again on another worker is told from the second attempt", () => {
  const events = [
    start,
    busy(1100, "w0", "c1"),
    failure(1500, "w0", "c1", true),
    ready(1500, "w0"),
    busy(1600, "w1", "c1"),
    fit(2000, "w1", "c1"),
  ];
  expect(spansOf(events).map(({ worker, attempt, outcome }) => [worker, attempt, outcome])).toEqual([
    [0, 1, "retried"],
    [1, 2, "trained"],
  ]);
});

test("a fit whose worker's status was not recorded is drawn from its seconds", () => {
  const [span] = spansOf([start, fit(4000, "w0", "c1", 1, 2)]);
  expect(span).toMatchObject({ from: 1000, to: 3000, outcome: "trained" });
});

test("the year between a kill and its resume takes no room, and what was under way then was stopped", () => {
  const year = 365 * 86_400_000;
  const timeline = new Timeline();
  for (const event of [start, busy(1100, "w0", "c1"), { ...start, at: 2000 + year }, busy(2100 + year, "w0", "c1")])
    timeline.advance(event);
  expect(timeline.data.spans).toMatchObject([
    { from: 100, to: 100, outcome: "stopped" },
    { from: 1200, to: null, outcome: "running" },
  ]);
  expect(timeline.data.resumes).toEqual([1100]);
});

test("a timeline that is sent to a page goes on there as if it had not been sent", () => {
  const events = [
    start,
    busy(1100, "w0", "c1"),
    busy(1200, "w1", "c2"),
    fit(1900, "w0", "c1"),
    ready(2000, "w0"),
    ready(2000, "w1"),
    fit(2100, "w1", "c2"),
  ];
  const whole = new Timeline();
  for (const event of events) whole.advance(event);
  for (let cut = 0; cut <= events.length; cut++) {
    const before = new Timeline();
    for (const event of events.slice(0, cut)) before.advance(event);
    const after = new Timeline(JSON.parse(JSON.stringify(before.data)) as TimelineData);
    for (const event of events.slice(cut)) after.advance(event);
    expect(after.data).toEqual(whole.data);
  }
});

test("of too many spans the last are sent, with the number of the others", () => {
  const timeline = new Timeline();
  timeline.advance(start);
  for (let round = 1; round <= 5; round++) timeline.advance(fit(1000 * round, "w0", "c1", round));
  expect(lastSpans(timeline.data, 2)).toMatchObject({ dropped: 3, spans: [{ round: 4 }, { round: 5 }] });
});
