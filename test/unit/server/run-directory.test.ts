import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openLineLog, writeDurably } from "../../../src/server/durable.ts";
import { createRunDirectory } from "../../../src/server/run-directory.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "prelort-test-"));
});
afterEach(() => rm(folder, { recursive: true }));

const content = new TextEncoder().encode("weights");
const trained = { coverage: [], fitLoss: null, reported: [], failed: [], late: [], passes: 0, bytesDown: 0, bytesUp: 0 };
const round = (number: number) => ({ round: number, global: [content], state: {}, trained, clients: [], setAside: [] });

test("a committed round is on disk under its number, with its metrics and the hash of its bytes", async () => {
  const directory = await createRunDirectory({ runsDir: folder, name: "a" });
  const sha256 = await directory.commitRound(round(3));
  await directory.writeMetrics({ round: 3 });
  await directory.close();

  expect(sha256).toBe(createHash("sha256").update(content).digest("hex"));
  expect(await readFile(path.join(folder, "a", "rounds", "3", "global.safetensors"), "utf8")).toBe("weights");
  expect(await readFile(path.join(folder, "a", "metrics.jsonl"), "utf8")).toBe('{"round":3}\n');
  expect(await readFile(path.join(folder, "a", "journal.jsonl"), "utf8")).toContain(sha256);
});

test("a run that has committed a round is replaced only when asked", async () => {
  const first = await createRunDirectory({ runsDir: folder, name: "a" });
  await first.commitRound(round(0));
  await first.close();

  await expect(createRunDirectory({ runsDir: folder, name: "a" })).rejects.toThrow("--overwrite");
  const second = await createRunDirectory({ runsDir: folder, name: "a", overwrite: true });
  expect(await readdir(path.join(folder, "a"))).not.toContain("rounds");
  expect(await readdir(path.join(folder, "a.replaced"))).toContain("rounds");
  await second.commitRound(round(0));
  await second.close();
  expect(await readdir(folder)).toEqual(["a"]);
});

test("a run that never committed a round may be started again under its name", async () => {
  for (let start = 0; start < 2; start++) await (await createRunDirectory({ runsDir: folder, name: "a" })).close();
  expect(await readdir(path.join(folder, "a"))).toEqual(["workers"]);
});

test("a run that is replaced is kept aside while the new one has committed nothing", async () => {
  const first = await createRunDirectory({ runsDir: folder, name: "a" });
  await first.commitRound(round(7));
  await first.close();
  // As a start that fails does.
  for (let start = 0; start < 2; start++) await (await createRunDirectory({ runsDir: folder, name: "a", overwrite: true })).close();
  expect(await readdir(path.join(folder, "a.replaced", "rounds"))).toEqual(["7"]);
  const last = await createRunDirectory({ runsDir: folder, name: "a", overwrite: true });
  await last.commitRound(round(0));
  await last.close();
  expect(await readdir(folder)).toEqual(["a"]);
});

test("a run that is under way cannot be replaced, one whose process was killed can", async () => {
  const first = await createRunDirectory({ runsDir: folder, name: "a" });
  await expect(createRunDirectory({ runsDir: folder, name: "a", overwrite: true })).rejects.toThrow(`in use by process ${process.pid}`);
  await writeFile(path.join(folder, "a", "lock"), "2147483647\n");
  await (await createRunDirectory({ runsDir: folder, name: "a" })).close();
  await first.close();
});

test("a folder that is no run is never replaced", async () => {
  await writeDurably(path.join(folder, "thesis", "chapter-1.txt"), "years of work");
  await expect(createRunDirectory({ runsDir: folder, name: "thesis", overwrite: true })).rejects.toThrow("no run of prelort");
  await writeFile(path.join(folder, "thesis", "journal.jsonl"), "");
  await expect(createRunDirectory({ runsDir: folder, name: "thesis", overwrite: true })).rejects.toThrow("holds chapter-1.txt");
  expect(await readdir(path.join(folder, "thesis"))).toEqual(["chapter-1.txt", "journal.jsonl"]);
});

test("a place where no folder can be made is named, with what to do", async () => {
  await writeFile(path.join(folder, "file"), "");
  const attempt = createRunDirectory({ runsDir: path.join(folder, "file", "runs"), name: "a" });
  await expect(attempt).rejects.toMatchObject({ kind: "environment", message: expect.stringMatching(/ENOTDIR[^]*runs_dir/) });
});

test("a run without a name takes the next free number", async () => {
  await writeFile(path.join(folder, "run-1"), "");
  const directory = await createRunDirectory({ runsDir: folder });
  await directory.close();
  expect(path.basename(directory.path)).toBe("run-2");
});

test("a durable write leaves nothing beside the file", async () => {
  await writeDurably(path.join(folder, "x", "run.json"), "{}");
  expect(await readdir(path.join(folder, "x"))).toEqual(["run.json"]);
});

test("a line log keeps the order of its lines, and closes twice without harm", async () => {
  const log = openLineLog(path.join(folder, "log.jsonl"));
  for (let line = 0; line < 100; line++) log.append({ line });
  await log.close();
  await log.close();
  const lines = (await readFile(path.join(folder, "log.jsonl"), "utf8")).trimEnd().split("\n");
  expect(lines.map((line) => JSON.parse(line).line)).toEqual([...Array(100).keys()]);
});
