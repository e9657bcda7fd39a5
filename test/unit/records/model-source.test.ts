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

test("differences between two workers' models are named", () => {
  expect(sourceChanges(source, structuredClone(source))).toEqual([]);
  const files = [file("weights", "model.safetensors", "9"), file("config", "config.json", "4"), file("code", "task.py", "3")];
  expect(sourceChanges(source, { commit: "cd", files })).toEqual([
    "commit ab became cd",
    expect.stringMatching(/^weights file model\.safetensors\b.*"1".*"9"/),
    expect.stringMatching(/^tokenizer file tokenizer\.json\b.*\bmissing\b/),
    expect.stringMatching(/^config file config\.json\b.*\bdid not exist\b/),
  ]);
});

test("evaluating an adapter on a base model that it was not trained on gives a remark that names the files", () => {
  const record = describeSource(source);
  expect(baseRemarks(record, source)).toEqual([]);
  expect(baseRemarks(record, { commit: null, files: [...source.files.slice(1), file("weights", "model.safetensors", "9")] })).toEqual([
    expect.stringMatching(/\bmodel\.safetensors\b/),
  ]);
  expect(baseRemarks({}, source)).toEqual([]);
  expect(baseRemarks(record, { commit: null, files: [] })).toEqual([]);
});
