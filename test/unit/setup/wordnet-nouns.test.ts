import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, test } from "vitest";
import { parseNoun, wordnetNouns } from "../../../src/setup/wordnet-nouns.ts";

const licence = "  1 This software and database is being provided to you, the LICENSEE, by  ";
const entity =
  "00001740 03 n 01 entity 0 003 ~ 00001930 n 0000 ~ 00002137 n 0000 ~ 04431553 n 0000 | that which is perceived or known or inferred to have its own distinct existence (living or nonliving)  ";
const congener =
  '00003993 03 n 01 congener 0 001 @ 00003553 n 0000 | a whole (a thing or person) of the same kind or category as another; "lard was also used, though its congener, butter, was more frequently employed"; "the American shopkeeper differs from his European congener"  ';
const livingThing =
  "00004258 03 n 02 living_thing 0 animate_thing 0 002 @ 00003553 n 0000 ~ 00004475 n 0000 | a living (or once living) entity  ";

test("a synset becomes its first word, its gloss and its lexicographer file", () => {
  expect(parseNoun(livingThing)).toEqual({ word: "living thing", gloss: "a living (or once living) entity", topic: "noun.Tops" });
});

test("examples of use are not part of the gloss", () => {
  expect(parseNoun(congener)?.gloss).toBe("a whole (a thing or person) of the same kind or category as another");
});

test("a quotation inside a definition is kept", () => {
  const line = '07170080 10 n 01 call 0 000 | a demand especially in the phrase "the call of duty"  ';
  expect(parseNoun(line)?.gloss).toBe('a demand especially in the phrase "the call of duty"');
});

test("numbers 03 to 28 are the 26 noun files in WordNet's order", () => {
  const topic = (number: string) => parseNoun(entity.replace(" 03 n ", ` ${number} n `))?.topic;
  expect([topic("03"), topic("05"), topic("13"), topic("18"), topic("28")]).toEqual([
    "noun.Tops",
    "noun.animal",
    "noun.food",
    "noun.person",
    "noun.time",
  ]);
  expect(() => topic("29")).toThrow(/data\.noun.* 29 n /);
});

test("lines of the licence are skipped, and any other line without a gloss is refused", () => {
  expect(parseNoun(licence)).toBeUndefined();
  expect(() => parseNoun(entity.replace(" | ", " "))).toThrow("00001740 03 n");
});

test("the package is laid out as one line per synset, and WordNet's licence", async () => {
  const folder = await mkdtemp(path.join(tmpdir(), "prelort-wordnet-"));
  const [unpacked, target] = [path.join(folder, "unpacked"), path.join(folder, "target")];
  await mkdir(path.join(unpacked, "package/dict"), { recursive: true });
  await mkdir(target);
  await writeFile(path.join(unpacked, "package/LICENSE"), "WordNet Release 3.0");
  await writeFile(path.join(unpacked, "package/dict/data.noun"), [licence, entity, congener, ""].join("\n"));

  await wordnetNouns.layOut(wordnetNouns.sources[0]!, unpacked, target, { say() {}, progress() {}, signal: new AbortController().signal });
  expect((await readdir(target)).toSorted()).toEqual(["LICENSE", "nouns.jsonl"]);
  const lines = (await readFile(path.join(target, "nouns.jsonl"), "utf8")).split("\n");
  expect(lines.map((line) => line && (JSON.parse(line) as { word: string }).word)).toEqual(["entity", "congener", ""]);
  await rm(folder, { recursive: true });
});
