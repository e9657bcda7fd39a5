import { expect, test } from "vitest";
import { describeSource, sourceChanges } from "../../../src/server/model-source.ts";

const file = (part: "weights" | "tokenizer" | "config" | "code", name: string, sha256: string) => ({ part, name, bytes: 1, sha256 });
const source = {
  commit: "ab",
  files: [file("weights", "model.safetensors", "1"), file("tokenizer", "tokenizer.json", "2"), file("code", "task.py", "3")],
};

test("what a model is goes into the record by part and file", () => {
  expect(describeSource(source)).toEqual({
    model: { commit: "ab", weights: { "model.safetensors": "1" }, tokenizer: { "tokenizer.json": "2" }, config: {} },
    code: { "task.py": "3" },
  });
});

test("of two workers' models the files are named that differ", () => {
  expect(sourceChanges(source, structuredClone(source))).toEqual([]);
  const files = [file("weights", "model.safetensors", "9"), file("config", "config.json", "4"), file("code", "task.py", "3")];
  expect(sourceChanges(source, { commit: "cd", files })).toEqual([
    "commit ab became cd",
    'weights file model.safetensors has changed since the run began (SHA-256 expected "1", got "9")',
    "tokenizer file tokenizer.json is gone",
    "config file config.json was not there when the run began",
  ]);
});
