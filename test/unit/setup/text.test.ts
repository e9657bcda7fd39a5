import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Asset } from "../../../src/setup/asset.ts";
import { addresses, brownCorpus, definitions, splitSentences, untag } from "../../../src/setup/text.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "prelort-text-"));
});
afterEach(() => rm(folder, { recursive: true }));

/** Lays the asset out from a package of these files, and reads the text. */
async function layOut(asset: Asset, files: Readonly<Record<string, string>>): Promise<string> {
  const unpacked = path.join(folder, "unpacked");
  const target = path.join(folder, "target");
  await mkdir(target);
  for (const [name, content] of Object.entries(files)) {
    const file = path.join(unpacked, "package", name);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, content);
  }
  const [source] = asset.sources;
  if (!source) throw new Error(`${asset.title} has no source`);
  await asset.layOut(source, unpacked, target, { say() {}, progress() {}, signal: new AbortController().signal });
  expect(await readdir(target)).toEqual(["LICENSE", "text.txt"]);
  return readFile(path.join(target, "text.txt"), "utf8");
}

test("a text is split where a sentence ends before a capital", () => {
  expect(splitSentences("It cost 3.5 millions. Who pays? “We do!” The\nend, i.e. all. ")).toEqual([
    "It cost 3.5 millions.",
    "Who pays?",
    "“We do!”",
    "The end, i.e. all.",
  ]);
});

test("removing tags restores the printed sentence", () => {
  expect(untag("\tThe/at jury/nn said/vbd ,/, ``/`` no/at evidence/nn ''/'' (/( yet/rb )/) ./.")).toBe(
    'The jury said, "no evidence" (yet).',
  );
});

test("a tag begins after the last slash of a token", () => {
  expect(untag("1/2/cd and/or/cc //in Atlanta's/np$ 3.5/cd")).toBe("1/2 and/or / Atlanta's 3.5");
});

test("marks that the corpus doubles appear once, and a mark inside a word is kept", () => {
  expect(untag("Who/wps ?/. ?/. he/pps asked/vbd ;/. ;/. a/at .35-caliber/nn gun/nn !/. !/.")).toBe("Who? he asked; a .35-caliber gun!");
});

test("a line between sentences is empty", () => {
  expect(untag("\t ")).toBe("");
});

test("the addresses are laid out in the order of their years, with one sentence per line", async () => {
  const files = { "data/1801_b_r.txt": "Third.", "data/1790_a_n.txt": "First. Second.", "data/1790_a_n.json": "{}", LICENSE: "" };
  expect(await layOut(addresses, files)).toBe("First.\nSecond.\nThird.\n");
});

test("only the samples of the Brown corpus are laid out", async () => {
  const files = {
    ca01: "\n\n\tGo/vb ./.\n\n\n\tStop/vb ./.\n",
    cr09: "Ha/uh !/. !/.\n",
    "cats.txt": "ca01 news",
    README: "redistribution permitted",
  };
  expect(await layOut(brownCorpus, files)).toBe("Go.\nStop.\nHa!\n");
});

test("the definitions are those of verbs, adjectives and adverbs, but not of nouns", async () => {
  const licence = "  1 This software and database is being provided to you  \n";
  const files = {
    "dict/data.noun": `${licence}00001740 03 n 01 entity 0 000 | that which is perceived  \n`,
    "dict/data.verb": `${licence}00002573 29 v 02 catch_one's_breath 0 rest 2 000 | breathe easily again; "I caught it"  \n`,
    "dict/data.adj": `${licence}00014490 00 s 01 galore(ip) 0 000 | in great numbers  \n`,
    "dict/data.adv": `${licence}00001885 02 r 01 AD 0 000 | in the Christian era  \n`,
    LICENSE: "",
  };
  expect(await layOut(definitions, files)).toBe(
    "catch one's breath: breathe easily again\ngalore: in great numbers\nAD: in the Christian era\n",
  );
});
