import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from "vitest";
import { readRunState } from "../../../src/records/run-state.ts";
import { readDetail } from "../../../src/ui/run-detail.ts";
import { createStories } from "../../../src/ui/run-story.ts";
import type { ListPage, OverlayRun, RunDetail } from "../../../src/ui/messages.ts";
import { serveUi, type Ui } from "../../../src/ui/serve-ui.ts";
import { summarise } from "../../../src/ui/summary.ts";
import { Timeline } from "../../../src/ui/timeline.ts";
import { line, trainTiny } from "../../support/ui-runs.ts";

/* A folder in `runs/` may be damaged or come from somebody else: it must neither break the page nor show what is not its own. */

const folder = mkdtempSync(path.join(tmpdir(), "prelort-test-"));
const runs = path.join(folder, "runs");
let ui: Ui;
beforeAll(async () => {
  await trainTiny({ runsDir: runs, name: "first", rounds: 2 });
  ui = await serveUi({ folder: runs });
});
afterAll(async () => {
  await ui.close();
  rmSync(folder, { recursive: true });
});

/** A copy of the run in which something is changed. */
function make(name: string, change: (at: (file: string) => string) => void): string {
  const directory = path.join(runs, name);
  cpSync(path.join(runs, "first"), directory, { recursive: true });
  onTestFinished(() => rmSync(directory, { recursive: true }));
  change((file) => path.join(directory, file));
  return directory;
}

async function get(target: string): Promise<{ readonly status: number; readonly value: unknown }> {
  const link = new URL(ui.link());
  const { port, searchParams } = link;
  const headers = { cookie: `prelort_ui_${port}=${searchParams.get("token")}` };
  const response = await fetch(new URL(target, link), { headers });
  return { status: response.status, value: await response.json() };
}

async function row(name: string) {
  const { status, value } = await get("api/runs");
  expect(status).toBe(200);
  const { changed } = value as ListPage;
  expect(changed.find((each) => each.name === "first")).toMatchObject({ state: "ended", rounds: { done: 2 } });
  return changed.find((each) => each.name === name);
}

test("a file of times that is too large for a string leaves its row without a time, and the other rows as they are", async () => {
  make("large", (at) => truncateSync(at("timings.jsonl"), 5 * 2 ** 30));
  expect(await row("large")).toMatchObject({ state: "ended", seconds: null });
});

test("metrics of more than 2 GiB without a newline cost neither the list nor a comparison its other runs", async () => {
  make("endless", (at) => truncateSync(at("metrics.jsonl"), 2 ** 31 + 2 ** 20));
  expect(await row("endless")).toMatchObject({ state: "ended", quality: null });
  const { status, value } = await get("api/overlay?name=endless&name=first");
  expect(status).toBe(200);
  expect((value as OverlayRun[]).map(({ name, rounds }) => [name, rounds.length])).toEqual([
    ["endless", 3],
    ["first", 3],
  ]);
});

test("times of many lines are summed across the pieces in which they are read", async () => {
  const lines = `${JSON.stringify({ round: 1, phase: "größe", seconds: 0.5 })}\n`.repeat(60_000);
  make("long", (at) => writeFileSync(at("timings.jsonl"), `${lines}{"seconds":7`));
  expect(await row("long")).toMatchObject({ seconds: 30_000 });
});

test.runIf(process.platform === "linux")(
  "a link to a device that never ends is damage, as one in place of the last events is",
  async () => {
    make("zero", (at) => {
      for (const file of ["events.jsonl", "journal.jsonl", "timings.jsonl", "metrics.jsonl"]) {
        rmSync(at(file));
        symlinkSync("/dev/zero", at(file));
      }
    });
    expect(await row("zero")).toMatchObject({ state: "damaged", problem: expect.stringContaining("not a regular file") });
    const { status, value } = await get("api/run?name=zero");
    expect(status).toBe(200);
    expect((value as RunDetail).problems).toContainEqual(expect.stringMatching(/metrics\.jsonl is not a regular file/));
  },
);

test("a record that is a link is shown nowhere, since it could be any file of this user", async () => {
  writeFileSync(path.join(folder, "secret.json"), JSON.stringify({ config: { secret: "s3cret" } }));
  make("linked", (at) => {
    rmSync(at("run.json"));
    symlinkSync(path.join(folder, "secret.json"), at("run.json"));
  });
  for (const what of ["run/config", "run"]) expect(JSON.stringify(await get(`api/${what}?name=linked`)), what).not.toContain("s3cret");
  expect(await get("api/run/config?name=linked")).toMatchObject({ status: 404, value: { error: expect.stringMatching(/regular file/) } });
});

test("a last event whose error is no text is a failure without words", async () => {
  const directory = make("odd-error", (at) => {
    writeFileSync(at("events.jsonl"), line(1, 1, { type: "run-failed", kind: "run", error: { toString: 1 } }));
    writeFileSync(at("journal.jsonl"), "");
  });
  expect(await readRunState(directory)).toEqual({ state: "failed", error: undefined });
});

test("parts of a record and of its journal that have another form than prelort writes are left out", async () => {
  const odd = { toString: 1 };
  make("odd", (at) => {
    const record = JSON.parse(readFileSync(at("run.json"), "utf8")) as Record<string, unknown>;
    const change = { versions: { node: "v20", python: odd, __proto__: null }, doubts: ["one", odd], device: { name: odd, type: "cpu" } };
    writeFileSync(at("run.json"), JSON.stringify({ ...record, ...change }));
    rmSync(at("events.jsonl"));
    const failure = { type: "failure", task_id: "round-1/fit/c1", worker_id: "w0", attempt: 1, error: "lost", will_retry: true };
    const lines = [failure, { ...failure, error: odd }, { ...failure, task_id: odd }, { type: "end" }];
    writeFileSync(at("journal.jsonl"), lines.map((each) => `${JSON.stringify(each)}\n`).join(""));
  });
  const { status, value } = await get("api/run?name=odd");
  expect(status, JSON.stringify(value)).toBe(200);
  expect(value).toMatchObject({ versions: { node: "v20" }, doubts: ["one"], device: null });
  expect((value as RunDetail).failures).toEqual([expect.objectContaining({ clientId: "c1", error: "lost" })]);
});

test("the server answers others while it reads the events of a long run", async () => {
  const directory = make("long-events", (at) => {
    const fits = Array.from({ length: 40_000 }, (_, index) =>
      line(index + 1, index, { type: "client-fit", round: 1, clientId: `c${index}`, workerId: "w0", seconds: 1, r: 1, loss: 1 }),
    );
    writeFileSync(at("events.jsonl"), fits.join(""));
  });
  const { summary } = await summarise(directory, "long-events");
  let [inTurn, longest] = [0, 0];
  const advance = Timeline.prototype.advance;
  const spy = vi.spyOn(Timeline.prototype, "advance").mockImplementation(function (this: Timeline, event) {
    longest = Math.max(longest, ++inTurn);
    advance.call(this, event);
  });
  onTestFinished(() => spy.mockRestore());
  const read = new AbortController();
  const turns = (async () => {
    for (; !read.signal.aborted; await turn()) inTurn = 0;
  })();
  const { lastEvent } = await readDetail({ directory, summary }, createStories()).finally(() => read.abort());
  await turns;
  expect(spy).toHaveBeenCalledTimes(40_000);
  expect(lastEvent).toBe(40_000);
  expect(longest).toBeLessThan(20_000);
});
