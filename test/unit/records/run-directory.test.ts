import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { changedFolders, writeDurably } from "../../../src/records/durable-file.ts";
import { readMetrics } from "../../../src/records/metrics.ts";
import { createRunDirectory } from "../../../src/records/run-directory.ts";
import { NOTHING_TRAINED } from "../../../src/records/metrics.ts";
import { unevaluated } from "./figures.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "prelort-test-"));
});
afterEach(() => rm(folder, { recursive: true }));

const content = new TextEncoder().encode("weights");
const round = (number: number) => ({ round: number, global: [content], state: {}, trained: NOTHING_TRAINED, clients: [], setAside: [] });

test("a committed round is on disk under its number, with its metrics and the hash of its bytes", async () => {
  const directory = await createRunDirectory({ runsDir: folder, name: "a" });
  const sha256 = await directory.commitRound(round(3));
  await directory.writeMetrics(unevaluated(3));
  await directory.close();

  expect(sha256).toBe(createHash("sha256").update(content).digest("hex"));
  expect(await readFile(path.join(folder, "a", "rounds", "3", "global.safetensors"), "utf8")).toBe("weights");
  const { lines } = await readMetrics(path.join(folder, "a", "metrics.jsonl"));
  expect(lines.map(({ metrics }) => metrics)).toEqual([unevaluated(3)]);
  expect(await readFile(path.join(folder, "a", "journal.jsonl"), "utf8")).toContain(sha256);
});

test("a durable write leaves no other file behind", async () => {
  await writeDurably(path.join(folder, "x", "run.json"), "{}");
  expect(await readdir(path.join(folder, "x"))).toEqual(["run.json"]);
});

test("a durable write that creates folders flushes each folder with a new entry", async () => {
  expect(changedFolders("/runs/a/rounds/0", "/runs/a/rounds")).toEqual(["/runs/a/rounds/0", "/runs/a/rounds", "/runs/a"]);
  expect(changedFolders("/runs/a/rounds/1", "/runs/a/rounds/1")).toEqual(["/runs/a/rounds/1", "/runs/a/rounds"]);
  expect(changedFolders("/runs/a", undefined)).toEqual(["/runs/a"]);
  const made = path.join(folder, "rounds", "0", "global");
  await writeDurably(made, "weights");
  expect(await readFile(made, "utf8")).toBe("weights");
});
