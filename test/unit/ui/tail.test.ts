import { appendFileSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, expect, test } from "vitest";
import { LARGEST_LINE } from "../../../src/ui/tail.ts";
import { findLast, readTail } from "../../../src/ui/tail.ts";

const folder = mkdtempSync(path.join(tmpdir(), "prelort-test-"));
afterAll(() => rmSync(folder, { recursive: true }));

function file(text: string): string {
  const name = path.join(folder, "lines.jsonl");
  writeFileSync(name, text);
  return name;
}

const even = (value: unknown) => (typeof value === "number" && value % 2 === 0 ? value : undefined);

test("the last line that fits is found, whatever follows it", async () => {
  expect(await findLast(file("1\n2\n3\n"), even)).toBe(2);
  expect(await findLast(file("1\n3\n"), even)).toBeUndefined();
  expect(await findLast(file(""), even)).toBeUndefined();
  expect(await findLast(path.join(folder, "absent"), even)).toBeUndefined();
});

test("a last line without its newline is still being written, so it does not count", async () => {
  expect(await findLast(file("2\n4"), even)).toBe(2);
  expect(await findLast(file("4"), even)).toBeUndefined();
});

test("lines that are longer than what is read at once are found whole", async () => {
  const long = JSON.stringify("x".repeat(100_000));
  const length = (value: unknown) => (typeof value === "string" ? value.length : undefined);
  expect(await findLast(file(`2\n${long}\n${"1\n".repeat(50_000)}`), length)).toBe(100_000);
  expect(await findLast(file(`2\n${long}\n${long}`), even)).toBe(2);
});

test("a line that is too long to be one of prelort's is left out, and what precedes it is found", async () => {
  const name = file("2\n");
  truncateSync(name, 2 * LARGEST_LINE);
  appendFileSync(name, "\n1\n");
  expect(await findLast(name, even)).toBe(2);
  truncateSync(name, 12 * LARGEST_LINE);
  appendFileSync(name, "\n1\n");
  expect(await findLast(name, even)).toBeUndefined();
});

test("a tail begins with a whole line, and a link is not followed", async () => {
  expect(await readTail(file("one\ntwo\nthree\n"), 8)).toEqual({ text: "three\n", isWhole: false });
  expect(await readTail(file("one\n"), 8)).toEqual({ text: "one\n", isWhole: true });
  symlinkSync(file("secret\n"), path.join(folder, "link"));
  expect(await readTail(path.join(folder, "link"), 8)).toBeUndefined();
});
