import { existsSync } from "node:fs";
import { join } from "node:path";
import { ConfigError, EnvironmentError } from "../errors.ts";
import { nearest } from "./nearest.ts";

/** The path inside the cache folder of each `prelort:NAME`; `prelort setup` creates it. */
export const assetPaths = {
  "all-MiniLM-L6-v2": "models/all-MiniLM-L6-v2",
  "wordnet-nouns": "data/wordnet-nouns/nouns.jsonl",
  "small-llama": "models/small-llama",
  "small-gpt2": "models/small-gpt2",
  "SmolLM2-135M": "models/SmolLM2-135M",
} as const;
export type AssetName = keyof typeof assetPaths;

const prefix = "prelort:";

export function isAssetReference(value: string): boolean {
  return value.startsWith(prefix);
}

/**
 * The absolute path of `prelort:NAME`, which the config has at `key`. Throws a ConfigError for an unknown name, and an
 * EnvironmentError if `prelort setup` has not created it yet.
 */
export function resolveAsset(reference: string, cacheFolder: string, key: string): string {
  const name = reference.slice(prefix.length);
  if (!isAssetReference(reference) || !isAssetName(name)) {
    const known = Object.keys(assetPaths).map((each) => prefix + each);
    const list = `${known.slice(0, -1).join(", ")} and ${known.at(-1)}`;
    const meant = nearest(reference, known);
    const hint = meant === undefined ? "" : `; did you mean ${meant}?`;
    throw new ConfigError([{ path: key, message: `${reference} is not provided by prelort setup, which provides ${list}${hint}` }]);
  }
  const path = join(cacheFolder, assetPaths[name]);
  if (!existsSync(path)) throw new EnvironmentError(`${reference} is not set up yet: ${path} does not exist`, setupCommandOf(name));
  return path;
}

/** Assets that take minutes or hundreds of megabytes are created only on request, by an option. */
const onRequest: Partial<Record<AssetName, { readonly option: string; readonly use: string }>> = {
  "small-llama": { option: "--language-models", use: "for comparisons" },
  "small-gpt2": { option: "--language-models", use: "for comparisons" },
  "SmolLM2-135M": { option: "--smollm2", use: "for configs/smollm2.yaml" },
};

/** The command that creates an asset. */
export function setupCommandOf(name: AssetName): string {
  const request = onRequest[name];
  return request ? `npx prelort setup ${request.option}` : "npx prelort setup";
}

/** What an asset is for. */
export function useOf(name: AssetName): string {
  return onRequest[name]?.use ?? "for the quickstart";
}

export function isAssetName(name: string): name is AssetName {
  return Object.hasOwn(assetPaths, name);
}
