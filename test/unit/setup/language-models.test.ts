import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { setUpLanguageModels } from "../../../src/setup/language-models.ts";

let cache: string;
let said: string[];
let progress: string[];
beforeEach(async () => {
  cache = await mkdtemp(path.join(tmpdir(), "prelort-language-models-"));
  said = [];
  progress = [];
  vi.stubEnv("PRELORT_CACHE", cache);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(cache, { recursive: true });
});

const context = {
  say: (line: string) => void said.push(line),
  progress: (line: string) => void progress.push(line),
  signal: new AbortController().signal,
};

test("existing models are not pretrained again, and no text is fetched", async () => {
  for (const name of ["small-llama", "small-gpt2"]) await mkdir(path.join(cache, "models", name), { recursive: true });
  await setUpLanguageModels(context);
  expect(said).toEqual(["small-llama", "small-gpt2"].map((name) => expect.stringContaining(path.join(cache, "models", name)) as string));
  expect(await readdir(cache)).toEqual(["models"]);
});

test("if pretraining fails, the error names the model, the reason and what to do, and no model remains", { timeout: 120_000 }, async () => {
  for (const name of ["addresses", "brown-corpus", "definitions"]) {
    await mkdir(path.join(cache, "data/text", name), { recursive: true });
    await writeFile(path.join(cache, "data/text", name, "text.txt"), "Too short.\n");
  }
  await expect(setUpLanguageModels(context)).rejects.toMatchObject({
    kind: "environment",
    message: expect.stringMatching(/small-llama .*[^]*the text is too short[^]*setup-small-llama\.log/),
    remedy: expect.stringMatching(/npx prelort setup --language-models$/),
  });
  expect(said.at(-1)).toMatch(/small-llama and small-gpt2: .*\b6 minutes\b.*\b2 threads\b.*\b[12] models?\b/);
  expect(progress).toContainEqual(expect.stringMatching(/small-llama: .*tokenizer.*\d+ lines/));
  expect(await readdir(cache)).toEqual(["data", "setup-small-gpt2.log", "setup-small-llama.log"]);
  expect(await readFile(path.join(cache, "setup-small-gpt2.log"), "utf8")).toMatch(/^\$ .*--architecture gpt2[^]*the text is too short/);
});
