import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { resolveAsset } from "../../../src/config/assets.ts";
import { ConfigError, EnvironmentError } from "../../../src/errors.ts";

let cache: string;
beforeEach(async () => {
  cache = await mkdtemp(path.join(tmpdir(), "prelort-assets-"));
});
afterEach(() => rm(cache, { recursive: true }));

test("a name stands for its place in the cache folder", async () => {
  const folder = path.join(cache, "models/all-MiniLM-L6-v2");
  await mkdir(folder, { recursive: true });
  expect(resolveAsset("prelort:all-MiniLM-L6-v2", cache, "data.path")).toBe(folder);
});

test("what is not there yet is had by prelort setup", () => {
  expect(() => resolveAsset("prelort:wordnet-nouns", cache, "data.path")).toThrow(EnvironmentError);
  expect(() => resolveAsset("prelort:wordnet-nouns", cache, "data.path")).toThrow(/is not set up yet[^]*npx prelort setup$/);
});

test("what the quickstart does not need is had by a command of its own", () => {
  expect(() => resolveAsset("prelort:small-llama", cache, "data.path")).toThrow(
    /is not set up yet[^]*npx prelort setup --language-models$/,
  );
  expect(() => resolveAsset("prelort:small-gpt2", cache, "data.path")).toThrow(/npx prelort setup --language-models$/);
  expect(() => resolveAsset("prelort:SmolLM2-135M", cache, "data.path")).toThrow(/is not set up yet[^]*npx prelort setup --smollm2$/);
});

test("an unknown name is an issue of the config that lists the known ones", () => {
  expect(() => resolveAsset("prelort:wordnet", cache, "data.path")).toThrow(ConfigError);
  expect(() => resolveAsset("prelort:toString", cache, "data.path")).toThrow(
    "there are prelort:all-MiniLM-L6-v2, prelort:wordnet-nouns, prelort:small-llama, prelort:small-gpt2 and prelort:SmolLM2-135M",
  );
});
