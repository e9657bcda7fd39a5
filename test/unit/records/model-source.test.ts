import { expect, test } from "vitest";
import { baseRemarks, describeSource, sourceChanges } from "../../../src/records/model-source.ts";

const file = (part: "weights" | "tokenizer" | "config" | "code", name: string, sha256: string) => ({ part, name, bytes: 1, sha256 });
const source = {
  commit: "ab",
  files: [file("weights", "model.safetensors", "1"), file("tokenizer", "tokenizer.json", "2"), file("code", "task.py", "3")],
};

test("a model is recorded by part and file", () => {
  expect(describeSource(source)).toEqual({
    model: { commit: "ab", weights: { "model.safetensors": "1" }, tokenizer: { "tokenizer.json": "2" }, config: {} },
    code: { "task.py": "3" },
  });
});

test("files that differ between two workers' models are named", () => {
  expect(sourceChanges(source, structuredClone(source))).toEqual([]);
  const files = [file("weights", "model.safetensors", "9"), file("config", "config.json", "4"), file("code", "task.py", "3")];
  expect(sourceChanges(source, { commit: "cd", files })).toEqual([
    "commit ab became cd",
    'weights file model.safetensors has changed since the run began (SHA-256 expected "1", got "9")',
    "tokenizer file tokenizer.json is missing",
    "config file config.json did not exist when the run began",
  ]);
});

test("evaluating on another base model than the adapter was trained on gives a remark that names the files", () => {
  const record = describeSource(source);
  expect(baseRemarks(record, source)).toEqual([]);
  expect(baseRemarks(record, { commit: null, files: [...source.files.slice(1), file("weights", "model.safetensors", "9")] })).toEqual([
    "the adapter was trained on another base model: model.safetensors differ (by SHA-256) from those of the run",
  ]);
  expect(baseRemarks({}, source)).toEqual([]);
  expect(baseRemarks(record, { commit: null, files: [] })).toEqual([]);
});
