import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { placeFolder } from "../../../src/artifacts/atomic-folder.ts";
import { argumentIssue, issuesOf } from "../../support/config-issues.ts";

let parent: string;
let target: string;
beforeEach(async () => {
  parent = await mkdtemp(path.join(tmpdir(), "prelort-test-"));
  target = path.join(parent, "deep", "out");
});
afterEach(() => rm(parent, { recursive: true }));

const place = (content: string, overwrite = false) =>
  placeFolder({ target, overwrite, record: { r: 4 }, fill: (folder) => writeFile(path.join(folder, "weights"), content) });

test("a folder is created with its record, even in place of an empty one", async () => {
  await mkdir(target, { recursive: true });
  await place("new");
  expect(await readFile(path.join(target, "weights"), "utf8")).toBe("new");
  expect(JSON.parse(await readFile(path.join(target, "prelort.json"), "utf8"))).toEqual({ r: 4 });
  expect(await readdir(path.dirname(target))).toEqual(["out"]);
});

test("an earlier export is replaced only on request, and completely", async () => {
  await place("old");
  await writeFile(path.join(target, "older"), "");
  expect(await issuesOf(() => place("new"))).toEqual([argumentIssue("out", [target, "--overwrite", "--out"])]);
  await place("new", true);
  expect((await readdir(target)).toSorted()).toEqual(["prelort.json", "weights"]);
  expect(await readFile(path.join(target, "weights"), "utf8")).toBe("new");
  expect(await readdir(path.dirname(target))).toEqual(["out"]);
});

test("a folder that no export wrote is never replaced", async () => {
  await mkdir(target, { recursive: true });
  await writeFile(path.join(target, "thesis"), "mine");
  expect(await issuesOf(() => place("new", true))).toEqual([argumentIssue("out", [target, "prelort.json"])]);
  expect(await readFile(path.join(target, "thesis"), "utf8")).toBe("mine");
  target = path.join(target, "thesis");
  expect(await issuesOf(() => place("new", true))).toEqual([argumentIssue("out", [target, "file", "folder"])]);
});

test("a failed export leaves no files, and keeps the earlier one", async () => {
  await place("old");
  const fill = async (folder: string) => {
    await writeFile(path.join(folder, "weights"), "ne");
    // The old one keeps its name meanwhile.
    expect(await readFile(path.join(target, "weights"), "utf8")).toBe("old");
    throw new Error("disk full");
  };
  await expect(placeFolder({ target, overwrite: true, record: {}, fill })).rejects.toThrow("disk full");
  expect(await readFile(path.join(target, "weights"), "utf8")).toBe("old");
  expect(await readdir(path.dirname(target))).toEqual(["out"]);
});
