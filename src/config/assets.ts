import { existsSync } from "node:fs";
import { join } from "node:path";
import { ConfigError, EnvironmentError } from "../errors.ts";

/** What `prelort:NAME` in a config stands for: paths inside the cache folder, which `prelort setup` fills. */
export const assetPaths = {
  "all-MiniLM-L6-v2": "models/all-MiniLM-L6-v2",
  "wordnet-nouns": "data/wordnet-nouns/nouns.jsonl",
} as const;
export type AssetName = keyof typeof assetPaths;

const prefix = "prelort:";

export function isAssetReference(value: string): boolean {
  return value.startsWith(prefix);
}

/**
 * The absolute path that `prelort:NAME` stands for. Throws a ConfigError if there is no such name, and an
 * EnvironmentError if `prelort setup` has not fetched it yet.
 */
export function resolveAsset(reference: string, cacheFolder: string): string {
  const name = reference.slice(prefix.length);
  if (!isAssetReference(reference) || !isAssetName(name)) {
    const known = Object.keys(assetPaths).map((each) => prefix + each);
    throw new ConfigError([{ path: reference, message: `is not something that prelort setup fetches; there are ${known.join(" and ")}` }]);
  }
  const path = join(cacheFolder, assetPaths[name]);
  if (!existsSync(path)) throw new EnvironmentError(`${reference} has not been fetched yet: ${path} is not there`, "npx prelort setup");
  return path;
}

function isAssetName(name: string): name is AssetName {
  return Object.hasOwn(assetPaths, name);
}
