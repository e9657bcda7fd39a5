import { expect, it } from "vitest";
import { plainReporter } from "../../../../src/cli/reporters/plain.ts";
import type { RoundMetrics } from "../../../../src/records/metrics.ts";
import type { NewEvent } from "../../../../src/server/events.ts";
import { hostileStory, recordingStream, roundEnd, roundStart, status, story } from "./story.ts";

function outputOf(events: readonly NewEvent[], now: () => number = () => 0): string {
  const stream = recordingStream(160);
  const reporter = plainReporter({ stream, now });
  for (const event of events) reporter.event(event);
  reporter.close();
  reporter.close();
  return stream.writes.join("");
}

it("prints one line for each event of a run", () => {
  const lines = outputOf(story)
    .split("\n")
    .map((line) => (line.startsWith("  ") ? line.slice(14) : line).trimEnd());
  expect(lines).toEqual([
    "start workers …",
    "worker w0 is ready on gpu-2: x86_64 (cpu), torch 2.13.0",
    "prepare data …",
    "data: 2 clients, 1,200 training examples, 64 held-out examples, 2 labels, 3 examples truncated to data.max_length",
    "run story: 2 rounds, tiers 1, 4, in /runs/story",
    "train …",
    "before training: accuracy 25.0 % at rank 1, 25.0 % at rank 4",
    "round 1 of 2: 2 clients train",
    "warning: round 1: attempt 1 of client c1 failed on worker w1; retrying",
    "worker w1: exited with 1",
    "  last lines of its log",
    "warning: round 1: attempt 2 of client c1 failed on worker w0; the round continues without it",
    "a value was not finite",
    "round 1 of 2: 1 reported, 1 failed (c1), training loss 1.500; accuracy 50.0 % at rank 1, 62.5 % at rank 4",
    "round 2 of 2: 2 clients train",
    "round 2 of 2: 2 reported, training loss 1.500; accuracy 50.0 % at rank 1, 75.0 % at rank 4",
    "save …",
    "done",
    "Quality at each tier",
    expect.stringMatching(/^─+$/),
    expect.stringMatching(/^ rank +accuracy before +after round 2 +change/),
    expect.stringMatching(/^─+$/),
    expect.stringMatching(/^ 1 +25.0 % +50.0 % +\+25.0 points/),
    expect.stringMatching(/^ 4 +25.0 % +75.0 % +\+50.0 points/),
    expect.stringMatching(/^ worst tier +25.0 % +50.0 % +\+25.0 points/),
    expect.stringMatching(/^ area, log₂ rank +25.0 % +62.5 % +\+37.5 points/),
    expect.stringMatching(/^─+$/),
    "run:       /runs/story",
    "adapters:  /runs/story/adapters: r1, r4",
    "",
  ]);
});

it("names the adapter that a run starts from, and the share of its energy that is dropped", () => {
  expect(outputOf([{ type: "adapter-ready", path: "/old", round: 8, r: 16, lost: 0.0123 }])).toMatch(
    /adapter: .*\/old after round 8, rank 16; 1\.2 %/,
  );
  expect(outputOf([{ type: "adapter-ready", path: "/peft", round: null, r: 4, lost: 0 }])).toMatch(/adapter: .*\/peft, rank 4$/m);
});

it("names a client that is quarantined, a worker slot that is disabled, and late clients", () => {
  const late = story.flatMap((event) =>
    event.type === "round-end" && event.round === 1 ? [{ ...event, metrics: { ...event.metrics, late: ["c7", "c9"] } }] : [],
  );
  expect(outputOf([{ type: "client-set-aside", round: 3, clientId: "c5", error: "exit code 9" }])).toMatch(
    /warning: round 3: .*client c5.*\n +exit code 9\n$/,
  );
  expect(outputOf([{ type: "worker-given-up", workerId: "w1", device: "cuda:1", error: "exit code 9" }])).toMatch(
    /warning: .*w1 \(cuda:1\).*\n +exit code 9\n$/,
  );
  expect(outputOf(late)).toMatch(/1 failed \(c1\), 2 late \(c7, c9\)/);
});

it("keeps reporting on the round that trains while the one before it is evaluated", () => {
  let time = 0;
  const stream = recordingStream();
  const reporter = plainReporter({ stream, now: () => time });
  for (const event of [roundStart(2), { type: "evaluation-start", round: 1 } as const, ...story.filter(isEndOfRoundOne)])
    reporter.event(event);
  time += 10_000;
  reporter.event(status("w0", "busy", "fit c0", 1, 30));
  expect(stream.writes.slice(1)).toEqual([
    expect.stringContaining("round 1: 1 reported"),
    "        10 s  round 2: waiting for 2 of 2 clients: c0 on w0, step 1 of 30, 0.0 s\n",
  ]);
  reporter.close();
});

const isEndOfRoundOne = (event: NewEvent) => event.type === "round-end" && event.round === 1;

it("prints what the run waits for and what each worker does, at most every ten seconds", () => {
  let time = 0;
  const beats = Array.from({ length: 26 }, (_, second) => [
    status("w0", "busy", "fit c0", second, 30),
    status("w1", "ready", "idle"),
  ]).flat();
  const stream = recordingStream();
  const reporter = plainReporter({ stream, now: () => time });
  reporter.event(roundStart(1));
  for (const beat of beats) {
    reporter.event(beat);
    time += 500;
  }
  expect(stream.writes.slice(1)).toEqual([
    "        10 s  round 1: waiting for 2 of 2 clients: c0 on w0, step 10 of 30, 10 s; w1 ready\n",
    "        20 s  round 1: waiting for 2 of 2 clients: c0 on w0, step 20 of 30, 20 s; w1 ready\n",
  ]);
});

it("prints neither colours nor control characters, whatever clients and workers are called", () => {
  for (const events of [story, hostileStory]) expect(outputOf(events).replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Bidi_Control}]/u);
  expect(outputOf(hostileStory)).toContain("client c1\\u001b[2J\\u009b1m\\u202eevil\\r\\n ");
  expect(outputOf(hostileStory).split("\n")).toHaveLength(outputOf(story).split("\n").length + 1);
});

it("keeps its table within the terminal", () => {
  const stream = recordingStream(60);
  const reporter = plainReporter({ stream, now: () => 0 });
  for (const event of story) reporter.event(event);
  const table = stream.writes.at(-1)?.split("\n").slice(2, -4) ?? [];
  expect(table.length).toBeGreaterThan(8);
  expect(Math.max(...table.map((line) => line.length))).toBeLessThanOrEqual(60);
});

const resumedAfter = (after: number, metrics: readonly RoundMetrics[] = []): NewEvent => ({
  type: "run-start",
  name: "story",
  directory: "/runs/story",
  rounds: 2,
  tiers: [1, 4],
  resumed: {
    after,
    metrics,
    differences: [{ path: "versions.torch", was: "2.12.0", is: "2.13.0" }],
    remarks: ["rounds/2/global.safetensors is damaged"],
  },
});

it("prints the round that a resumed run continues from, what was damaged, and what differs now", () => {
  const [start, ...warnings] = outputOf([resumedAfter(1)]).split("\n");
  expect(start).toMatch(/run story .*after round 1 of 2/);
  expect(warnings.join("\n")).toMatch(
    /warning: rounds\/2\/global\.safetensors is damaged\n.*warning: .*versions\.torch was "2\.12\.0" and is "2\.13\.0"/,
  );
  expect(outputOf([resumedAfter(-1)])).not.toContain("-1");
});

it("prints one line, without a table, for a resumed run that was complete", () => {
  const metrics = story.flatMap((event) => (event.type === "round-end" ? [event.metrics] : []));
  const end = story.filter((event) => event.type === "run-end");
  const lines = outputOf([resumedAfter(2, metrics), ...end])
    .trimEnd()
    .split("\n")
    .filter((line) => !line.includes("warning: "));
  expect(lines).toEqual([expect.stringMatching(/run story is complete: 2 rounds, tiers 1, 4, in \/runs\/story$/)]);
  const evaluated = [resumedAfter(2, metrics.slice(1)), roundEnd(2, [0.5, 0.75], ["c0", "c1"], []), ...end];
  expect(outputOf(evaluated)).toContain("Quality at each tier");
});

const best = { round: 1, value: 0.5625, metric: "accuracy", at: "area" } as const;
const stopped = { round: 2, reason: "patience" } as const;

it("says which round is the best so far, that the run stops early and why, and where the best adapters are", () => {
  const stopping = story.flatMap((event): readonly NewEvent[] => {
    if (event.type === "run-start") return [{ ...event, rounds: 9 }];
    if (event.type === "phase-start" && event.phase === "save") return [{ type: "early-stop", ...stopped, best }, event];
    if (event.type === "round-end" && event.round > 0) return [{ ...event, best }];
    return [event.type === "run-end" ? { ...event, stopped, best: { ...best, adapters: ["/runs/story/adapters/best/r4"] } } : event];
  });
  const lines = outputOf(stopping).split("\n");
  expect(lines.filter((line) => line.includes("the best so far"))).toEqual([expect.stringMatching(/round 1 of 9: /)]);
  expect(lines.find((line) => line.includes("stops early"))).toMatch(
    /after round 2 of 9, since .*; best: round 1 \(accuracy 56\.\d %, area over the ranks\)$/,
  );
  expect(lines.join("\n")).toMatch(/best: +round 1 \(accuracy 56\.\d %, area over the ranks\)\n +\/runs\/story\/adapters\/best: r4\n/);
});

it("prints one line for a resumed run that had stopped early", () => {
  const metrics = story.flatMap((event) => (event.type === "round-end" ? [event.metrics] : []));
  const [start] = [resumedAfter(2, metrics)].map((event) =>
    event.type === "run-start" && event.resumed ? { ...event, rounds: 9, resumed: { ...event.resumed, stopped } } : event,
  );
  const lines = outputOf([...(start ? [start] : []), ...story.filter((event) => event.type === "run-end")])
    .trimEnd()
    .split("\n");
  expect(lines.filter((line) => !line.includes("warning: "))).toEqual([
    expect.stringMatching(/run story is complete, stopped early after round 2 of 9, since .*: 9 rounds, tiers 1, 4, in \/runs\/story$/),
  ]);
});
