import { appendFileSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createRunList } from "../../../src/ui/run-list.ts";

let runs: string;
beforeEach(() => {
  runs = mkdtempSync(path.join(tmpdir(), "prelort-test-"));
  for (const name of ["a", "b"]) {
    mkdirSync(path.join(runs, name));
    writeFileSync(path.join(runs, name, "run.json"), JSON.stringify({ config: { rounds: 1, model: { name_or_path: "m" } } }));
    writeFileSync(
      path.join(runs, name, "timings.jsonl"),
      '{"round":1,"phase":"fit","seconds":1.5}\n{"round":1,"phase":"x","seconds":2e0}\n',
    );
  }
});
afterEach(() => rmSync(runs, { recursive: true }));

const names = (of: { readonly changed: readonly { readonly name: string }[] }) => of.changed.map(({ name }) => name).toSorted();

test("a single run is read without the others, and a folder that is not listed is none", async () => {
  const list = createRunList(runs);
  expect(await list.look("a")).toMatchObject({ directory: path.join(runs, "a"), summary: { name: "a", model: "m", seconds: 3.5 } });
  expect(names(list.since())).toEqual(["a"]);
  for (const name of ["c", "..", "", "../a", "a/"]) expect(await list.look(name), name).toBeUndefined();
});

test("a list and its single runs that are read at once count no time twice, and no change is missed", async () => {
  const list = createRunList(runs);
  const { version } = list.since();
  await Promise.all([list.look("a"), list.refresh(), list.look("a"), list.look("b")]);
  const { changed } = list.since(version);
  expect(Object.fromEntries(changed.map(({ name, seconds }) => [name, seconds]))).toEqual({ a: 3.5, b: 3.5 });
  const before = list.since().version;
  appendFileSync(
    path.join(runs, "a", "timings.jsonl"),
    '{"round":1,"phase":"fit","seconds":9}\n{"round":2,"phase":"fit","seconds":1e999}\n',
  );
  await list.look("a");
  expect(list.since(before)).toMatchObject({ changed: [{ name: "a", seconds: 12.5 }], removed: [] });
});

test("a run that was removed is gone for whoever looks at it, and from the list", async () => {
  const list = createRunList(runs);
  await list.refresh();
  const { version } = list.since();
  renameSync(path.join(runs, "a"), path.join(runs, ".hidden"));
  expect(await list.look("a")).toBeUndefined();
  expect(list.since(version)).toMatchObject({ changed: [], removed: ["a"] });
});
