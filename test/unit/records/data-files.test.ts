import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { WorkerMessageOf } from "../../../src/protocol/messages.ts";
import { changedDataFiles, type DataFile, listDataFiles } from "../../../src/records/data-files.ts";

let folder = "";
beforeEach(() => (folder = mkdtempSync(path.join(tmpdir(), "prelort-data-files-"))));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function write(name: string, content: unknown): string {
  const file = path.join(folder, name);
  writeFileSync(file, typeof content === "string" ? content : JSON.stringify(content));
  return file;
}

const file = (name: string, sha256: string, part = "row of data.path"): DataFile => ({ part, name, sha256 });

test("only the data's files are taken from a worker's list of sources", async () => {
  const kept = [file("table.csv", "1", "data.path"), file("1.png", "2"), file("held.csv", "3", "data.eval_path")];
  const files = [...kept, file("model.safetensors", "4", "weights")].map((listed) => ({ ...listed, path: "/x" }));
  const sources = { path: write("sources.json", { is_complete: true, files, folders: [] }), sha256: "" };
  const prepared = (changes: object) => ({ sources, ...changes }) as WorkerMessageOf<"prepared">;
  expect(await listDataFiles(prepared({}))).toEqual(kept);
  expect(await listDataFiles(prepared({ sources: null }))).toBeUndefined();
  expect(await listDataFiles(prepared({ sources: { path: path.join(folder, "elsewhere"), sha256: "" } }))).toBeUndefined();
});

test("at most five changed data files are named", async () => {
  const before = [file("table.csv", "a", "data.path"), ...Array.from({ length: 9 }, (_, index) => file(`${index}.png`, "b"))];
  const recorded = write("data-files.json", before);
  expect(await changedDataFiles(recorded, before)).toEqual([]);
  const now = [file("table.csv", "c", "data.path"), ...before.slice(2), file("9.png", "b")];
  expect(await changedDataFiles(recorded, now)).toEqual([
    expect.stringMatching(/^table\.csv\b.*"a".*"c"/),
    expect.stringMatching(/^0\.png\b.*\bdata\.path\b.*\bis missing$/),
    expect.stringMatching(/^9\.png\b.*\bdata\.path\b.*\bdid not exist\b/),
  ]);
  const all = before.map(({ name, part }) => file(name, "other", part));
  const changes = await changedDataFiles(recorded, all);
  expect([changes.length, changes.at(-1)]).toEqual([6, expect.stringMatching(/\b5\b/)]);
});

test("two data files with the same name count as unchanged only if both are", async () => {
  const recorded = write("data-files.json", [file("a.png", "1"), file("a.png", "2")]);
  expect(await changedDataFiles(recorded, [file("a.png", "1"), file("a.png", "3")])).toHaveLength(1);
});

test("without a readable list of data files no change is named", async () => {
  expect(await changedDataFiles(path.join(folder, "none"), [file("a", "1")])).toEqual([]);
  expect(await changedDataFiles(write("broken.json", "{"), [file("a", "1")])).toEqual([]);
});
