import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { findAssets } from "../../src/ui/assets.ts";

const source = path.join(import.meta.dirname, "../../src");
/** Each room imports only from itself and from those before it. */
const layers =
  "errors base installation telemetry tensor adapter strategy protocol config transport workers ray records artifacts track server planning report compare testing setup ui cli index".split(
    " ",
  );
/** Rooms that touch no file, process or socket, and the outside modules they may import. */
const pure = ["tensor", "adapter", "strategy", "protocol"];
const harmless = ["zod", "msgpackr", "ml-matrix", "node:crypto", "node:zlib", "node:buffer", "node:timers/promises"];

const files = readdirSync(source, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".ts"));
/** The page of `prelort ui` runs in a browser, which has no modules but those that the server gives it. */
const pageFiles = files.filter((file) => file.startsWith(path.join("ui", "page")) && !file.endsWith(".d.ts"));
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

/** The files whose code, not only whose types, a file loads. */
function loadedBy(file: string, seen = new Set<string>()): ReadonlySet<string> {
  if (seen.has(file)) return seen;
  seen.add(file);
  const text = readFileSync(path.join(source, file), "utf8");
  for (const [, specifier = ""] of text.matchAll(/^(?:import|export) (?!type\b)[^;]*?from "([^"]+)";/gm)) {
    const target = specifier.startsWith(".") ? path.join(path.dirname(file), specifier) : specifier;
    if (target.endsWith(".ts")) loadedBy(target, seen);
    else seen.add(target);
  }
  return seen;
}

test.each(pageFiles)("%s loads only modules that the server gives the page", (file) => {
  const own = new Set(findAssets().keys());
  const loaded = [...loadedBy(file)].filter((target) => !target.endsWith(".d.ts"));
  expect(loaded.map((target) => `/app/${target.replace(/\.ts$/, ".js")}`).filter((address) => !own.has(address))).toEqual([]);
});
