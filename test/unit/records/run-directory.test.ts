import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openLineLog, writeDurably } from "../../../src/records/durable-file.ts";
import { createRunDirectory } from "../../../src/records/run-directory.ts";

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
