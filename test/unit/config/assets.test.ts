import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { resolveAsset } from "../../../src/config/assets.ts";
import { EnvironmentError } from "../../../src/errors.ts";
import { issue, issuesOf } from "../../support/config-issues.ts";

let cache: string;
beforeEach(async () => {
  cache = await mkdtemp(path.join(tmpdir(), "prelort-assets-"));
});
afterEach(() => rm(cache, { recursive: true }));

test("a name stands for a path in the cache folder", async () => {
  const folder = path.join(cache, "models/all-MiniLM-L6-v2");
  await mkdir(folder, { recursive: true });
  expect(resolveAsset("prelort:all-MiniLM-L6-v2", cache, "data.path")).toBe(folder);
});

test.each([
  ["wordnet-nouns", "npx prelort setup"],
  ["all-MiniLM-L6-v2", "npx prelort setup"],
  ["small-llama", "npx prelort setup --language-models"],
  ["small-gpt2", "npx prelort setup --language-models"],
  ["SmolLM2-135M", "npx prelort setup --smollm2"],
])("if %s is missing, the error names its path and %s", (name, remedy) => {
  const resolve = () => resolveAsset(`prelort:${name}`, cache, "data.path");
  expect(resolve).toThrow(EnvironmentError);
  expect(resolve).toThrow(expect.objectContaining({ remedy, message: expect.stringMatching(new RegExp(`prelort:${name} .*${cache}`)) }));
});

test("an unknown name is an issue of the config that lists the known ones", async () => {
  const known = ["all-MiniLM-L6-v2", "wordnet-nouns", "small-llama", "small-gpt2", "SmolLM2-135M"].map((name) => `prelort:${name}`);
  expect(await issuesOf(() => resolveAsset("prelort:toString", cache, "data.path"))).toEqual([
    issue("data.path", ["prelort:toString", ...known]),
  ]);
  expect(await issuesOf(() => resolveAsset("prelort:wordnet-noun", cache, "data.path"))).toEqual([
    issue("data.path", ["prelort:wordnet-noun", ...known, "prelort:wordnet-nouns"]),
  ]);
});
