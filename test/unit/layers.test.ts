import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";

const source = path.join(import.meta.dirname, "../../src");
/** Each room imports only from itself and from those before it. */
const layers =
  "errors base installation tensor adapter strategy protocol config transport workers ray records artifacts track server planning report compare testing setup cli index".split(
    " ",
  );
/** Rooms that touch no file, process or socket, and the outside modules they may import. */
const pure = ["tensor", "adapter", "strategy", "protocol"];
const harmless = ["zod", "msgpackr", "ml-matrix", "node:crypto", "node:zlib", "node:buffer", "node:timers/promises"];

const files = readdirSync(source, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));
const roomOf = (file: string) => file.split(path.sep)[0]?.replace(/\.ts$/, "") ?? "";

function importsOf(file: string): string[] {
  const text = readFileSync(path.join(source, file), "utf8");
  return [...text.matchAll(/(?:\bfrom|\bimport|\bimport\()\s*"([^"]+)"/g)].map(([, specifier]) => specifier ?? "");
}

test("every file of src is in a room of the fixed order", () => {
  expect(files.length).toBeGreaterThan(20);
  expect(files.filter((file) => !layers.includes(roomOf(file)))).toEqual([]);
});

test.each(files)("%s imports only from its own room and those above it", (file) => {
  const local = importsOf(file).filter((specifier) => specifier.startsWith("."));
  const rooms = local.map((specifier) => roomOf(path.join(path.dirname(file), specifier)));
  expect(rooms.filter((room) => layers.indexOf(room) > layers.indexOf(roomOf(file)))).toEqual([]);
});

test.each(files.filter((file) => pure.includes(roomOf(file))))("%s touches no file, process or socket", (file) => {
  const foreign = importsOf(file).filter((specifier) => !specifier.startsWith("."));
  expect(foreign.filter((specifier) => !harmless.includes(specifier))).toEqual([]);
  expect(readFileSync(path.join(source, file), "utf8")).not.toMatch(
    /\bprocess\.\w|\bfetch\(|\bconsole\.|\bMath\.random|\bDate\.now|\bnew Date/,
  );
});
