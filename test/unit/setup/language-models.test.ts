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

test("models that are there are not made again, and no text is fetched", async () => {
  for (const name of ["small-llama", "small-gpt2"]) await mkdir(path.join(cache, "models", name), { recursive: true });
  await setUpLanguageModels(context);
  expect(said).toEqual(["small-llama", "small-gpt2"].map((name) => `model ${name}: already in ${path.join(cache, "models", name)}`));
  expect(await readdir(cache)).toEqual(["models"]);
});

test(
  "where the pretraining fails, the error says of which model, why and what to do, and no model is left",
  { timeout: 120_000 },
  async () => {
    for (const name of ["addresses", "brown-corpus", "definitions"]) {
      await mkdir(path.join(cache, "data/text", name), { recursive: true });
      await writeFile(path.join(cache, "data/text", name, "text.txt"), "Too short.\n");
    }
    await expect(setUpLanguageModels(context)).rejects.toThrow(
      /small-llama could not be pretrained: [^]*the text is too short[^]*whole log: .*setup-small-llama\.log[^]*npx prelort setup --language-models/,
    );
    expect(said.at(-1)).toMatch(
      /^pretraining small-llama and small-gpt2: about 6 minutes of a processor core each, on 2 threads each, [12] models? at a time$/,
    );
    expect(progress).toContainEqual(expect.stringMatching(/small-llama: training a tokenizer on \d+ lines/));
    expect(await readdir(cache)).toEqual(["data", "setup-small-gpt2.log", "setup-small-llama.log"]);
    expect(await readFile(path.join(cache, "setup-small-gpt2.log"), "utf8")).toMatch(/^\$ .*--architecture gpt2[^]*the text is too short/);
  },
);
