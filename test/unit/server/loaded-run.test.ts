import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { federate, InterruptedError, loadRun, prefix, type RunEvent } from "../../../src/index.ts";
import { claimNewFolder } from "../../../src/records/claim-run-folder.ts";
import type { RecordedEvent } from "../../../src/records/event-log.ts";
import { isHeld } from "../../../src/records/lock.ts";
import { RunEvents } from "../../../src/server/run-events.ts";
import { tinyRun, type TinyRunOptions } from "../../../src/testing/index.ts";

let runsDir: string;
beforeEach(() => {
  runsDir = mkdtempSync(path.join(tmpdir(), "prelort-loaded-"));
});
afterEach(() => rmSync(runsDir, { recursive: true }));

const start = (more: Omit<TinyRunOptions, "runsDir"> = {}) => federate(tinyRun({ runsDir, name: "a", seed: 7, ...more }));
const load = () => loadRun(path.join(runsDir, "a"));

async function collect(events: AsyncIterable<RunEvent>): Promise<readonly RunEvent[]> {
  const seen: RunEvent[] = [];
  for await (const event of events) seen.push(event);
  return seen;
}

/** What its folder keeps of a run's events. */
function recorded(events: readonly RunEvent[]): readonly unknown[] {
  const statuses = new Map<string, string>();
  return events.flatMap((event): readonly unknown[] => {
    if (event.type === "worker-status") {
      const news = `${event.state} ${event.taskId} ${event.activity}`;
      if (statuses.get(event.workerId) === news) return [];
      statuses.set(event.workerId, news);
    }
    const { clients: _, ...content } = { clients: undefined, ...event };
    return [event.type === "data-ready" ? content : { ...event }];
  });
}

test("a finished run is loaded with the metrics, adapters and events that its own process had", async () => {
  const run = start();
  const seen = collect(run);
  const { metrics, adapter, layout, directory } = await run.result;
  const loaded = await load();
  expect(loaded).toMatchObject({
    state: "ended",
    name: "a",
    directory,
    metrics,
    layout,
    config: { seed: 7 },
    method: { name: expect.stringContaining("segment-wise") },
  });
  expect(await loaded.adapter()).toEqual(adapter);
  expect(await loaded.adapter({ r: 2 })).toEqual(prefix(adapter, layout, 2));
  expect((await loaded.adapter({ round: 1 })).rows).not.toEqual(adapter.rows);
  await expect(loaded.adapter({ r: 9 })).rejects.toThrow("must be a whole number from 1 to 8, got 9");
  const kept = recorded(await seen);
  expect(await collect(loaded.events())).toEqual(kept.map((event) => ({ version: 1, ...(event as RunEvent) })));
  expect([kept.at(0), kept.at(-1)]).toMatchObject([{ number: expect.any(Number), type: "phase-start" }, { type: "run-end" }]);
});

test("events are numbered in order and have times, and a reader may continue after the last that it saw", async () => {
  const run = start();
  const all = await collect(run);
  const numbers = all.map(({ number }) => number);
  expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
  expect(new Set(numbers).size).toBe(numbers.length);
  expect(all.every(({ at }, index) => at >= (all[index - 1]?.at ?? 1.7e12))).toBe(true);
  const others = all.filter(({ type }) => type !== "worker-status");
  const after = others.at(4)?.number ?? 0;
  const later = async (events: AsyncIterable<RunEvent>) => (await collect(events)).filter(({ type }) => type !== "worker-status");
  expect(await later(run.events({ after }))).toEqual(others.slice(5));
  expect((await later((await load()).events({ after }))).map(({ number }) => number)).toEqual(others.slice(5).map(({ number }) => number));
});

test("another reader of the folder follows a run that is under way to its last event", async () => {
  const run = start();
  for await (const event of run) if (event.type === "round-start") break;
  const loaded = await load();
  expect(loaded).toMatchObject({ state: "running", holder: { pid: process.pid } });
  const [followed, seen] = await Promise.all([collect(loaded.events()), collect(run)]);
  // The reader of the run itself started later than its workers, so it has only their latest status.
  const types = (events: readonly RunEvent[]) => events.map(({ type }) => type).filter((type) => type !== "worker-status");
  expect(types(followed)).toEqual(types(seen));
  expect(followed.at(-1)).toMatchObject({ type: "run-end", number: seen.at(-1)?.number });
});

test("stop ends a run, whose state is interrupted from then on, and which resumes to the same bytes with higher numbers", async () => {
  const { sha256 } = await start().result;
  rmSync(path.join(runsDir, "a"), { recursive: true });
  const run = start();
  expect(run.state).toBe("running");
  for await (const event of run) if (event.type === "round-end") break;
  await run.stop();
  expect(run.state).toBe("interrupted");
  await run.stop();
  await expect(run.result).rejects.toBeInstanceOf(InterruptedError);
  expect(await load()).toMatchObject({ state: "interrupted" });
  const before = await collect((await load()).events());
  expect(before.at(-1)).toMatchObject({ type: "run-failed", kind: "interrupted" });

  const resumed = start({ resume: true });
  expect((await resumed.result).sha256).toBe(sha256);
  expect(resumed.state).toBe("ended");
  const all = await collect((await load()).events());
  expect(all.slice(0, before.length)).toEqual(before);
  expect(all[before.length]?.number).toBeGreaterThan(before.at(-1)?.number ?? Infinity);
  expect(all.find((event) => event.type === "run-start" && event.resumed)).toMatchObject({ resumed: { after: expect.any(Number) } });
});

test("a reader that saw a part of an interrupted run continues with the process that resumes it, and misses nothing", async () => {
  const run = start();
  for await (const event of run) if (event.type === "round-end") break;
  await run.stop();
  const [, , , , { number: middle } = { number: 0 }] = await collect((await load()).events());
  const resumed = start({ resume: true });
  // Both ask before the run has its folder again.
  const [all, later, own] = [collect(resumed.events({ after: 0 })), collect(resumed.events({ after: middle })), collect(resumed)];
  await resumed.result;
  const recorded = await collect((await load()).events());
  const told = (events: readonly RunEvent[]) => events.flatMap(({ type, number }) => (type === "worker-status" ? [] : [number]));
  expect(told(await all)).toEqual(told(recorded));
  expect(told(await later)).toEqual(told(recorded).filter((number) => number > middle));
  expect(told(recorded)).toEqual(expect.arrayContaining(told((await own).slice(-3))));
  expect((await own)[0]?.number).toBeGreaterThan(middle);
});

test("a reader of a run that is replaced gets all of its events, and those of the other have higher numbers", async () => {
  const run = start();
  for await (const event of run) if (event.type === "round-start") break;
  const following = collect((await load()).events());
  await run.result;
  const other = start({ overwrite: true, seed: 8 });
  const seen = await collect(other);
  const followed = await following;
  expect(followed.filter(({ type }) => type === "round-end")).toHaveLength(4);
  expect(followed.at(-1)).toMatchObject({ type: "run-end" });
  expect(seen[0]?.number).toBeGreaterThan(followed.at(-1)?.number ?? Infinity);
  const later = await collect((await load()).events({ after: followed.at(-1)?.number }));
  expect(later.map(({ type }) => type).filter((type) => type === "run-start")).toHaveLength(1);
});

test("events that are no longer in memory are read from the folder", async () => {
  const events = new RunEvents();
  const written: RecordedEvent[] = [];
  events.recordIn({ append: (event) => void written.push(event) });
  events.claim(async (after) => written.filter(({ number }) => number > after));
  for (let round = 1; round <= 200_010; round++) events.emit({ type: "evaluation-start", round });
  events.end({ type: "run-end", directory: "a", adapters: [], sha256: "" });
  const numbers = (await collect(events.read({ after: written[2]?.number }))).map(({ number }) => number);
  expect(numbers).toEqual(written.slice(3).map(({ number }) => number));
  expect(numbers).toHaveLength(200_008);
});

test("a reader that waits for the run's folder leaves when its signal aborts", async () => {
  const leaving = new AbortController();
  const waiting = collect(new RunEvents().read({ after: 1, signal: leaving.signal }));
  leaving.abort();
  expect(await waiting).toEqual([]);
});

test("await using stops a run at the end of its block", async () => {
  const run = start();
  {
    await using held = run;
    for await (const event of held) if (event.type === "round-start") break;
  }
  expect(run.state).toBe("interrupted");
});

test("a failed run says why, and one whose process ended without a word was killed", async () => {
  const fit = () => {
    throw new Error("no memory");
  };
  const { tinyLauncher } = await import("../../../src/testing/index.ts");
  const failed = await start({ launcher: tinyLauncher({ fit }) }).result.catch((error: Error) => error.message);
  expect(await load()).toMatchObject({ state: "failed", error: failed });
  const file = path.join(runsDir, "a", "events.jsonl");
  const lines = readFileSync(file, "utf8").trimEnd().split("\n");
  writeFileSync(file, `${lines.slice(0, -1).join("\n")}\n`);
  expect(await load()).toMatchObject({ state: "killed" });
  appendFileSync(file, `${lines.at(-1)?.slice(0, 20)}`);
  expect((await collect((await load()).events())).length).toBe(lines.length - 1);
});

test("a run of a version that recorded no events has its metrics, and no events", async () => {
  const { metrics } = await start().result;
  rmSync(path.join(runsDir, "a", "events.jsonl"));
  const loaded = await load();
  expect(loaded).toMatchObject({ state: "ended", metrics });
  expect(await collect(loaded.events())).toEqual([]);
});

test("asking who holds a folder keeps nobody from it", async () => {
  const free = await claimNewFolder({ runsDir, name: "b" });
  expect(await isHeld(free.root)).toMatchObject({ pid: process.pid });
  free.release();
  expect(await isHeld(free.root)).toBe(false);
  for (let round = 0; round < 20; round++) {
    const asked = Array.from({ length: 5 }, () => isHeld(free.root));
    const claimed = await claimNewFolder({ runsDir, name: "b" });
    await Promise.all(asked);
    claimed.release();
  }
});
