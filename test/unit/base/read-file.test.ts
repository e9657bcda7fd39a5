import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  hashIfThere,
  isThere,
  type JsonLine,
  LARGEST_LINE,
  readIfThere,
  readJsonLines,
  readTextIfThere,
} from "../../../src/base/read-file.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "prelort-read-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const at = (...parts: string[]) => path.join(folder, ...parts);
const readers: readonly (readonly [string, (file: string) => Promise<unknown>])[] = [
  ["bytes", readIfThere],
  ["text", readTextIfThere],
  ["a hash", hashIfThere],
  ["lines", (file) => readJsonLines(file, () => undefined)],
];

test.each(readers)("reading a pipe instead of a file does not block: %s", async (_, read) => {
  execFileSync("mkfifo", [at("pipe")]);
  await expect(read(at("pipe"))).rejects.toThrow("not a regular file");
});

test.runIf(process.platform === "linux").each(readers)("a link to a device that never ends is no file: %s", async (_, read) => {
  symlinkSync("/dev/zero", at("zero"));
  await expect(read(at("zero"))).rejects.toMatchObject({ kind: "environment", message: expect.stringContaining("not a regular file") });
});

test("a line that is too long is left out without being held in memory, and those after it keep their places", async () => {
  writeFileSync(at("log"), "1\n");
  truncateSync(at("log"), 6 * LARGEST_LINE);
  appendFileSync(at("log"), "\n2\n");
  const lines: JsonLine[] = [];
  const before = process.memoryUsage().rss;
  expect(await readJsonLines(at("log"), (line) => lines.push(line))).toBe(6 * LARGEST_LINE + 3);
  expect(process.memoryUsage().rss - before).toBeLessThan(5 * LARGEST_LINE);
  expect(lines.map(({ number, value }) => [number, value])).toEqual([
    [1, 1],
    [2, undefined],
    [3, 2],
  ]);
});

test.each(readers)("an absent file has no %s", async (_, read) => {
  expect(await read(at("nothing"))).toBe(read === readers[3]?.[1] ? 0 : undefined);
  expect(isThere(at("nothing"))).toBe(false);
});

test.each(readers)("any other failure to read %s is an error that names the file and what to do", async (_, read) => {
  mkdirSync(at("folder"));
  writeFileSync(at("file"), "");
  symlinkSync("loop", at("loop"));
  for (const [file, code, remedy] of [
    [at("folder"), "EISDIR", /restore the file/],
    [at("file", "x"), "ENOTDIR", /restore the folder/],
    [at("loop"), "ELOOP", /readable/],
  ] as const) {
    await expect(read(file)).rejects.toMatchObject({
      kind: "environment",
      message: expect.stringMatching(new RegExp(`${file} .*${code}`)),
      remedy: expect.stringMatching(remedy),
    });
  }
  expect(() => isThere(at("loop"))).toThrow("ELOOP");
});

test.runIf(process.platform === "linux")("a disk that fails to read is an error", async () => {
  // Its first page cannot be read.
  symlinkSync("/proc/self/mem", at("broken"));
  for (const read of [hashIfThere, (file: string) => readJsonLines(file, () => undefined)]) {
    await expect(read(at("broken"))).rejects.toMatchObject({
      message: expect.stringMatching(/broken .*EIO/),
      remedy: expect.stringMatching(/disk/),
    });
  }
});

test("bytes, text and hash are those of the file", async () => {
  const bytes = Buffer.from("größer\0", "utf8");
  writeFileSync(at("file"), bytes);
  expect(await readIfThere(at("file"))).toEqual(new Uint8Array(bytes));
  expect(await readTextIfThere(at("file"))).toBe("größer\0");
  expect(await hashIfThere(at("file"))).toBe(createHash("sha256").update(bytes).digest("hex"));
});

test("lines are joined across pieces, and an unfinished one is left out", async () => {
  const long = "ü".repeat(3_000_000);
  const text = `{"a":1}\n${JSON.stringify(long)}\n\nnull\n`;
  writeFileSync(at("log"), `${text}{"torn`);
  const lines: JsonLine[] = [];
  expect(await readJsonLines(at("log"), (line) => lines.push(line))).toBe(Buffer.byteLength(text));
  expect(lines.map(({ number }) => number)).toEqual([1, 2, 3, 4]);
  expect(lines.map(({ value }) => value)).toEqual([{ a: 1 }, long, undefined, null]);
  expect(lines[0]?.text).toBe('{"a":1}');
});

test("a line that is not UTF-8 is not JSON", async () => {
  writeFileSync(at("log"), Buffer.from([0x22, 0xff, 0x22, 0x0a]));
  const values: unknown[] = [];
  await readJsonLines(at("log"), ({ value }) => values.push(value));
  expect(values).toEqual([undefined]);
});
