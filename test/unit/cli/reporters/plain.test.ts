import { expect, it } from "vitest";
import { plainReporter } from "../../../../src/cli/reporters/plain.ts";
import type { RunEvent } from "../../../../src/server/events.ts";
import { hostileStory, recordingStream, roundStart, status, story } from "./story.ts";

function tell(events: readonly RunEvent[], now: () => number = () => 0): string {
  const stream = recordingStream(160);
  const reporter = plainReporter({ stream, now });
  for (const event of events) reporter.event(event);
  reporter.close();
  reporter.close();
  return stream.writes.join("");
}

it("tells a run in a line for each thing that happened", () => {
  const lines = tell(story)
    .split("\n")
    .map((line) => (line.startsWith("  ") ? line.slice(14) : line).trimEnd());
  expect(lines).toEqual([
    "start workers …",
    "worker w0 is ready: x86_64 (cpu), torch 2.13.0",
    "prepare data …",
    "data: 2 clients hold 1,200 training examples, 64 are held out, 2 labels, 3 examples were cut to data.max_length",
    "run story: 2 rounds, tiers 1, 4, in /runs/story",
    "train …",
    "before training: accuracy 25.0 % at rank 1, 25.0 % at rank 4",
    "round 1 of 2: 2 clients train",
    "warning: round 1: attempt 1 of client c1 failed on worker w1; it is tried again",
    "worker w1: exited with 1",
    "  last lines of its log",
    "warning: round 1: attempt 2 of client c1 failed on worker w0; the round goes on without it",
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
    expect.stringMatching(/^ worst of them +25.0 % +50.0 % +\+25.0 points/),
    expect.stringMatching(/^ area, log₂ rank +25.0 % +62.5 % +\+37.5 points/),
    expect.stringMatching(/^─+$/),
    "run:       /runs/story",
    "adapters:  /runs/story/adapters: r1, r4",
    "",
  ]);
});

it("says which adapter a run starts from, and what of it is left out", () => {
  const stream = recordingStream();
  const reporter = plainReporter({ stream, now: () => 0 });
  reporter.event({ type: "adapter-ready", path: "/old", round: 8, r: 16, lost: 0.0123 });
  reporter.event({ type: "adapter-ready", path: "/peft", round: null, r: 4, lost: 0 });
  expect(stream.writes.map((line) => line.trim().replace(/^\S+ s +/, ""))).toEqual([
    "adapter: starts from that of /old after round 8, rank 16; 1.2 % of its energy lay in ranks that this run has not, and is left out",
    "adapter: starts from /peft, rank 4",
  ]);
  reporter.close();
});

it("keeps telling of the round that trains while the one before it is evaluated", () => {
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

const isEndOfRoundOne = (event: RunEvent) => event.type === "round-end" && event.round === 1;

it("says what is being waited for, and what each worker does, at most every ten seconds", () => {
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

it("uses no colour and no control characters, whatever clients and workers are called", () => {
  for (const events of [story, hostileStory]) expect(tell(events).replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Bidi_Control}]/u);
  expect(tell(hostileStory)).toContain("of client c1\\u001b[2J\\u009b1m\\u202eevil\\r\\n failed on worker w1\\u001b");
  expect(tell(hostileStory).split("\n")).toHaveLength(tell(story).split("\n").length + 1);
});

it("keeps its table within the terminal", () => {
  const stream = recordingStream(60);
  const reporter = plainReporter({ stream, now: () => 0 });
  for (const event of story) reporter.event(event);
  const table = stream.writes.at(-1)?.split("\n").slice(2, -4) ?? [];
  expect(table.length).toBeGreaterThan(8);
  expect(Math.max(...table.map((line) => line.length))).toBeLessThanOrEqual(60);
});

it("says from which round a run continues, and what was found damaged", () => {
  const start: RunEvent = {
    type: "run-start",
    name: "story",
    directory: "/runs/story",
    rounds: 2,
    tiers: [1],
    resumed: { after: 1, metrics: [], differences: [], remarks: ["rounds/2/global.safetensors is damaged"] },
  };
  const told = tell([start]);
  expect(told).toMatch(/run story goes on after round 1 of 2/);
  expect(told).toMatch(/warning: rounds\/2\/global\.safetensors is damaged/);
});
