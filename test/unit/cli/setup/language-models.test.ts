import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { setUpLanguageModels } from "../../../../src/cli/setup/language-models.ts";

let cache: string;
let said: string[];
beforeEach(async () => {
  cache = await mkdtemp(path.join(tmpdir(), "prelort-language-models-"));
  said = [];
  vi.stubEnv("PRELORT_CACHE", cache);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(cache, { recursive: true });
});

const context = { say: (line: string) => void said.push(line), signal: new AbortController().signal };

test("models that are there are not made again, and no text is fetched", async () => {
  for (const name of ["small-llama", "small-gpt2"]) await mkdir(path.join(cache, "models", name), { recursive: true });
  await setUpLanguageModels(context);
  expect(said).toEqual(["small-llama", "small-gpt2"].map((name) => `model ${name}: already in ${path.join(cache, "models", name)}`));
  expect(await readdir(cache)).toEqual(["models"]);
});

test("where the pretraining fails, the error says of which model, why and what to do, and no model is left", async () => {
  for (const name of ["addresses", "brown-corpus", "definitions"]) {
    await mkdir(path.join(cache, "data/text", name), { recursive: true });
    await writeFile(path.join(cache, "data/text", name, "text.txt"), "Too short.\n");
  }
  await expect(setUpLanguageModels(context)).rejects.toThrow(
    /small-llama could not be pretrained: [^]*the text is too short[^]*npx prelort setup --language-models/,
  );
  expect(said.at(-1)).toBe("model small-llama: pretraining it, which takes minutes");
  expect(await readdir(cache)).toEqual(["data"]);
});
