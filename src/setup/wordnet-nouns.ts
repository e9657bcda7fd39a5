import { createReadStream, createWriteStream } from "node:fs";
import { copyFile } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import { pipeline } from "node:stream/promises";
import { assetPaths } from "../config/assets.ts";
import type { Asset } from "./asset.ts";
import { parseSynset, wordnet } from "./wordnet.ts";

/** WordNet's lexicographer files of nouns, numbers 03 to 28, in the order of its lexnames(5WN). */
const topics = [
  "Tops act animal artifact attribute body cognition communication event feeling food group location",
  "motive object person phenomenon plant possession process quantity relation shape state substance time",
].flatMap((line) => line.split(" ").map((topic) => `noun.${topic}`));
const firstTopicNumber = 3;

/** WordNet 3.1's nouns, one line per synset: `{"word", "gloss", "topic"}`, and its licence. */
export const wordnetNouns: Asset = {
  title: "data wordnet-nouns",
  folder: path.dirname(assetPaths["wordnet-nouns"]),
  sources: [wordnet],
  async layOut(_source, unpacked, target) {
    const lines = createInterface({ input: createReadStream(path.join(unpacked, "package/dict/data.noun"), "utf8"), crlfDelay: Infinity });
    await pipeline(lines, toJsonLines, createWriteStream(path.join(target, path.basename(assetPaths["wordnet-nouns"]))));
    await copyFile(path.join(unpacked, "package/LICENSE"), path.join(target, "LICENSE"));
  },
};

export interface Noun {
  readonly word: string;
  readonly gloss: string;
  readonly topic: string;
}

/** Parses a line of data.noun; undefined for the lines of the licence. */
export function parseNoun(line: string): Noun | undefined {
  const synset = parseSynset(line);
  if (!synset) return undefined;
  const topic = topics[synset.file - firstTopicNumber];
  if (topic === undefined) throw new Error(`not a line of WordNet's data.noun: ${line.slice(0, 80)}`);
  return { word: synset.word, gloss: synset.definition, topic };
}

async function* toJsonLines(lines: AsyncIterable<string>): AsyncGenerator<string> {
  for await (const line of lines) {
    const noun = parseNoun(line);
    if (noun) yield `${JSON.stringify(noun)}\n`;
  }
}
