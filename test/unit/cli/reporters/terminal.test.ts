import { stripVTControlCharacters } from "node:util";
import { afterEach, expect, it, vi } from "vitest";
import { terminalReporter } from "../../../../src/cli/reporters/terminal.ts";
import type { NewEvent } from "../../../../src/server/events.ts";
import { screen } from "./screen.ts";
import { hostileStory, recordingStream, roundEnd, roundStart, status, story, tickingClock } from "./story.ts";

afterEach(() => {
  vi.unstubAllEnvs();
});

/** Every write of the reporter. Each look at the clock advances it, so that every frame differs in its first line and is written completely. */
function show(events: readonly NewEvent[]): readonly string[] {
  const stream = recordingStream(160);
  const reporter = terminalReporter({ stream, now: tickingClock(1000) });
  for (const event of events) reporter.event(event);
  reporter.close();
  reporter.close();
  return stream.writes;
}
const lastFrame = (events: readonly NewEvent[]) =>
  stripVTControlCharacters(show(events).at(-1) ?? "")
    .split("\n")
    .map((line) => line.trimEnd());

it("shows what the run waits for, a progress bar for each worker, and the rounds so far", () => {
  const upToFit = story.findIndex((event) => event.type === "client-fit");
  expect(lastFrame(story.slice(0, upToFit + 1))).toEqual([
    expect.stringMatching(/^prelort story {2}round 1 of 2: waiting for 1 of 2 clients {2}\d+ s$/),
    expect.stringMatching(/^ {2}w0 {2}██████░░░░░░ {2}fit c0, step 3 of 6, [\d.]+ s$/),
    "  w1                failed",
    "",
    "Round by round: accuracy at each rank",
    expect.stringMatching(/^─+$/),
    expect.stringMatching(/^ round +r=1 +r=4 +training loss/),
    expect.stringMatching(/^─+$/),
    expect.stringMatching(/^ 0 +25\.0 % +25\.0 %/),
    expect.stringMatching(/^─+$/),
    "",
  ]);
});

it("keeps warnings above the frame, one line each", () => {
  const warnings = show(story)
    .map((text) => stripVTControlCharacters(text))
    .filter((text) => text.startsWith("warning"));
  expect(warnings).toEqual([
    expect.stringMatching(/^warning: round 1: attempt 1 of client c1 .*worker w1; .*: worker w1: exited with 1\n$/),
    expect.stringMatching(/^warning: round 1: attempt 2 of client c1 .*worker w0; .*: a value was not finite\n$/),
  ]);
});

it("ends with every round, the gain at each tier and the paths, and prints nothing afterwards", () => {
  const text = lastFrame(story).join("\n");
  expect(text).toMatch(/^prelort story\n\nRound by round[\s\S]*\n 0 [\s\S]*\n 1 [\s\S]*\n 2 /);
  expect(text).toMatch(/ 4 +25\.0 % +75\.0 % +\+50\.0 points/);
  expect(text).toMatch(/run: {7}\/runs\/story\nadapters: {2}\/runs\/story\/adapters: r1, r4\n$/);
});

it("keeps a long run with many workers within the screen, and shows all rounds at the end", () => {
  const rounds = Array.from({ length: 60 }, (_, round) => roundEnd(round, [0.5, 0.5], ["c0"], []));
  const workers = Array.from({ length: 20 }, (_, index) => status(`w${index}`, "ready", "idle"));
  const start = story.filter((event) => event.type === "run-start");
  const end = story.filter((event) => event.type === "run-end");
  const live = lastFrame([...start, ...workers, ...rounds, roundStart(60)]);
  expect(live.length).toBeLessThan(40);
  expect(live).toContain("  and 12 more workers");
  expect(lastFrame([...start, ...rounds, ...end]).filter((line) => /^ \d+ +50\.0 % +50\.0 % +(1\.500|—)/.test(line))).toHaveLength(60);
});

it("escapes control characters in names", async () => {
  const terminal = screen(160, 60);
  const reporter = terminalReporter({ stream: terminal.stdout, now: tickingClock(100) });
  for (const event of hostileStory) reporter.event(event);
  const lines = await terminal.lines();
  expect(lines).toContainEqual(expect.stringContaining("client c1\\u001b[2J\\u009b1m\\u202eevil\\r\\n "));
  expect(lines).toContain("run:       /runs/story\\u001b[2J\\u009b1m\\u202eevil\\r\\n");
  expect(lines.join("")).not.toMatch(/[\p{Cc}\p{Bidi_Control}]/u);
});

it.each([
  [80, 24],
  [40, 12],
  [30, 6],
])("keeps the run's line visible and every warning complete on a screen of %d × %d", async (columns, rows) => {
  const terminal = screen(columns, rows);
  // The clock stands still, so that frames differ only in the middle.
  const reporter = terminalReporter({ stream: terminal.stdout, now: () => 0 });
  const upToEnd = story.slice(
    0,
    story.findIndex((event) => event.type === "run-end"),
  );
  for (const event of upToEnd) reporter.event(event);
  reporter.close();
  const lines = await terminal.lines();
  const text = lines.join(" ").replaceAll(/\s+/g, " ");
  expect(text.match(/data: 2 clients/g)).toHaveLength(1);
  expect(text.match(/warning: round 1: attempt [12] of client c1/g)).toHaveLength(2);
  expect(text).toContain("prelort story save");
  expect(text.split("prelort story")).toHaveLength(2);
  const table = ["Round by", "────────", "round", "────────", "0", "1", "2", "────────"];
  if (rows > 20) expect(lines.slice(-8).map((line) => line.slice(0, 8).trim())).toEqual(table);
});

it("prints nothing after close, whatever events follow", () => {
  const stream = recordingStream(160);
  const reporter = terminalReporter({ stream, now: tickingClock(1000) });
  reporter.event(status("w0", "ready", "idle"));
  reporter.close();
  const writes = stream.writes.length;
  for (const event of story) reporter.event(event);
  expect(stream.writes).toHaveLength(writes);
});

it("prints one line, without tables, for a resumed run that was complete", () => {
  const stream = recordingStream(160);
  const reporter = terminalReporter({ stream, now: () => 0 });
  const metrics = story.flatMap((event) => (event.type === "round-end" ? [event.metrics] : []));
  for (const event of story) {
    if (event.type === "run-start") reporter.event({ ...event, resumed: { after: 2, metrics, differences: [], remarks: [] } });
    if (event.type === "run-end") reporter.event(event);
  }
  const text = stripVTControlCharacters(stream.writes.join(""));
  expect(text).toMatch(/run story is complete: 2 rounds/);
  expect(text).not.toContain("adapters:");
});

it("honours NO_COLOR", () => {
  vi.stubEnv("TERM", "xterm-256color");
  for (const name of ["FORCE_COLOR", "CI"]) vi.stubEnv(name, undefined);
  vi.stubEnv("NO_COLOR", undefined);
  const green = "\u001B[32m";
  expect(show(story).join("")).toContain(green);
  vi.stubEnv("NO_COLOR", "1");
  expect(show(story).join("")).not.toContain(green);
});

it("leaves a line that stays if the run stops early, with nothing that a terminal obeys", () => {
  const best = { round: 1, value: 2.5, metric: "mine\u001B[2J\r\n", at: "worst" } as const;
  const start = story.findIndex(({ type }) => type === "run-start");
  const shown = show([...story.slice(0, start + 1), { type: "early-stop", round: 1, reason: "target", best }]).join("");
  expect(stripVTControlCharacters(shown)).toMatch(
    /stops early after round 1 of 2, since .*target.*; best: round 1 \(mine\\u001b\[2J\\r\\n 2\.5\d*, worst tier\)/,
  );
});
