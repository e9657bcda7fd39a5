import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openLineLog } from "../../../src/records/line-log.ts";

let folder: string;
let file: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "prelort-test-"));
  file = path.join(folder, "log.jsonl");
});
afterEach(() => rm(folder, { recursive: true }));

const encode = (line: number) => ({ line });

test("a line log keeps the order of its lines and can be closed twice", async () => {
  const log = openLineLog(file, { encode });
  for (let line = 0; line < 100; line++) log.append(line);
  await log.close();
  await log.close();
  const lines = (await readFile(file, "utf8")).trimEnd().split("\n");
  expect(lines.map((line) => JSON.parse(line).line)).toEqual([...Array(100).keys()]);
});

test("a line log is truncated to the kept bytes by the first write, not before", async () => {
  const [kept, torn] = ['{"line":0}\n', '{"li'];
  await writeFile(file, kept + torn);
  const log = openLineLog(file, { keep: kept.length, encode });
  await log.flush();
  expect(await readFile(file, "utf8")).toBe(kept + torn);
  log.append(1);
  await log.close();
  expect(await readFile(file, "utf8")).toBe(`${kept}{"line":1}\n`);
});

test("a failed write of a line log is thrown by every flush, and nothing is written after it", async () => {
  const log = openLineLog(path.join(folder, "missing", "log.jsonl"), { encode });
  log.append(0);
  await expect(log.flush()).rejects.toMatchObject({ kind: "environment", message: expect.stringContaining("ENOENT") });
  log.append(1);
  await expect(log.flush()).rejects.toMatchObject({ kind: "environment" });
  await expect(log.close()).rejects.toMatchObject({ kind: "environment" });
});

test("what is written is in the file, and a write that fails is told before the log is closed", async () => {
  const log = openLineLog(file, { encode });
  log.append(0);
  await log.written();
  expect(await readFile(file, "utf8")).toBe('{"line":0}\n');
  await log.close();
  await mkdir(path.join(folder, "occupied"));
  const occupied = openLineLog(path.join(folder, "occupied"), { encode });
  occupied.append(0);
  await expect(occupied.written()).rejects.toMatchObject({
    kind: "environment",
    remedy: expect.stringMatching(/remove the folder.*resume/),
  });
});

test.skipIf(!existsSync("/dev/full"))("a full disk is named with the remedy", async () => {
  const log = openLineLog("/dev/full", { encode });
  log.append(0);
  await expect(log.written()).rejects.toMatchObject({
    message: expect.stringMatching(/^\/dev\/full could not be written: ENOSPC: no space left/),
    remedy: expect.stringMatching(/^free space on that disk, .*prelort resume$/),
  });
  await expect(log.close()).rejects.toMatchObject({ kind: "environment" });
});
