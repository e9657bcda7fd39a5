import { existsSync } from "node:fs";
import { join } from "node:path";
import { ConfigError, EnvironmentError } from "../errors.ts";

/** What `prelort:NAME` in a config stands for: paths inside the cache folder, which `prelort setup` fills. */
export const assetPaths = {
  "all-MiniLM-L6-v2": "models/all-MiniLM-L6-v2",
  "wordnet-nouns": "data/wordnet-nouns/nouns.jsonl",
  "small-llama": "models/small-llama",
  "small-gpt2": "models/small-gpt2",
} as const;
export type AssetName = keyof typeof assetPaths;

const prefix = "prelort:";

export function isAssetReference(value: string): boolean {
  return value.startsWith(prefix);
}

/**
 * The absolute path that `prelort:NAME` stands for. Throws a ConfigError if there is no such name, and an
 * EnvironmentError if `prelort setup` has not put it there yet.
 */
export function resolveAsset(reference: string, cacheFolder: string): string {
  const name = reference.slice(prefix.length);
  if (!isAssetReference(reference) || !isAssetName(name)) {
    const known = Object.keys(assetPaths).map((each) => prefix + each);
    const list = `${known.slice(0, -1).join(", ")} and ${known.at(-1)}`;
    throw new ConfigError([{ path: reference, message: `is not something that prelort setup provides; there are ${list}` }]);
  }
  const path = join(cacheFolder, assetPaths[name]);
  if (!existsSync(path)) throw new EnvironmentError(`${reference} is not set up yet: ${path} is not there`, setupCommandOf(name));
  return path;
}

/** The command that puts it there. The pretrained models take minutes, so they are made only where they are asked for. */
export function setupCommandOf(name: AssetName): string {
  return isPretrainedHere(name) ? "npx prelort setup --language-models" : "npx prelort setup";
}

export function isPretrainedHere(name: AssetName): boolean {
  return name === "small-llama" || name === "small-gpt2";
}

export function isAssetName(name: string): name is AssetName {
  return Object.hasOwn(assetPaths, name);
}
