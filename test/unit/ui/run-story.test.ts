import { appendFileSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createStories, type Story } from "../../../src/ui/run-story.ts";
import { line } from "../../support/ui-runs.ts";

let root: string;
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), "prelort-test-"));
});
afterEach(() => rmSync(root, { recursive: true }));

const file = () => path.join(root, "events.jsonl");
const fit = (number: number) =>
  line(number, number, { type: "client-fit", round: 1, clientId: `c${number}`, workerId: "w0", seconds: 1, peakMemoryBytes: number });
const clients = ({ timeline }: Story) => timeline.data.spans.map(({ what }) => what);

async function read(stories: ReturnType<typeof createStories>): Promise<Story> {
  return stories.read(root, (reading) => reading());
}

test("a story goes on where it was read to, and a torn line waits until it is whole", async () => {
  const stories = createStories();
  writeFileSync(file(), `${fit(1)}${fit(2)}${fit(3).slice(0, 20)}`);
  const story = await read(stories);
  expect([story.lastEvent, clients(story)]).toEqual([2, ["c1", "c2"]]);
  expect(story.position).toBe(2 * fit(1).length);
  // What was read is not looked at again.
  writeFileSync(file(), " ".repeat(2 * fit(1).length - 1) + "\n" + fit(3) + fit(4));
  expect(await read(stories)).toBe(story);
  expect([story.lastEvent, clients(story)]).toEqual([4, ["c1", "c2", "c3", "c4"]]);
  expect(story.memory.get("w0")?.peak).toEqual({ bytes: 4, round: 1 });
  expect(await stories.known(root)).toBe(story);
});

test("a story that is asked for twice at once is read once", async () => {
  const stories = createStories();
  writeFileSync(file(), fit(1) + fit(2));
  const first = await read(stories);
  appendFileSync(file(), fit(3));
  expect(await Promise.all([read(stories), read(stories)])).toEqual([first, first]);
  expect(clients(first)).toEqual(["c1", "c2", "c3"]);
});

test("a run that replaced another, or whose file became shorter, is read anew", async () => {
  const stories = createStories();
  writeFileSync(file(), fit(1) + fit(2));
  await read(stories);
  rmSync(file());
  expect(await stories.known(root)).toBeUndefined();
  writeFileSync(file(), fit(7) + fit(8) + fit(9));
  expect(clients(await read(stories))).toEqual(["c7", "c8", "c9"]);
  truncateSync(file(), fit(7).length);
  expect(clients(await read(stories))).toEqual(["c7"]);
});

test("a run without events has none, also when they come later", async () => {
  const stories = createStories();
  expect((await read(stories)).lastEvent).toBeUndefined();
  writeFileSync(file(), fit(1));
  expect((await read(stories)).lastEvent).toBe(1);
});

test("what could not be read is read by the next", async () => {
  const stories = createStories();
  writeFileSync(file(), fit(1));
  await stories.read(root, async () => {});
  expect((await read(stories)).lastEvent).toBe(1);
});
