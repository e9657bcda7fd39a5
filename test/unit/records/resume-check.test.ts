import { expect, test } from "vitest";
import { ConfigError } from "../../../src/errors.ts";
import { requireSameRun } from "../../../src/records/resume-check.ts";

const record = {
  name: "a",
  prelort: "0.1.0",
  config: { name: "a", runs_dir: "runs", seed: 7, lora: { r: 8, tiers: [1, 8] }, record_updates: false, workers: { count: 2, threads: 1 } },
  versions: { torch: "2.13.0" },
  index: { path: "/cache/a", sha256: "ab" },
  clients: [{ id: "c0", n: 5 }],
};

test("a run may be resumed in another folder and with other workers", () => {
  const config = { ...record.config, name: "b", runs_dir: "/else", record_updates: true, workers: { count: 9, threads: 1, retries: 7 } };
  expect(requireSameRun(record, { ...record, name: "b", config, index: { path: "/other", sha256: "ab" } })).toEqual([]);
});

test("the adapter a run started from may have moved, but not have changed or been left out", () => {
  const begun = { ...record, init_from: { path: "/a", sha256: "ab" } };
  expect(requireSameRun(begun, { ...begun, init_from: { path: "/b", sha256: "ab" } })).toEqual([]);
  expect(() => requireSameRun(begun, { ...begun, init_from: { path: "/a", sha256: "cd" } })).toThrow(/init_from\.sha256/);
  expect(() => requireSameRun(begun, { ...begun, init_from: null })).toThrow(/init_from/);
});

test("every difference that would make it a different run is reported at once", () => {
  const config = { ...record.config, seed: 8, lora: { r: 8, tiers: [1, 4, 8] }, workers: { count: 2, threads: 4 } };
  const now = { ...record, config, index: { path: "/cache/a", sha256: "cd" }, clients: [{ id: "c0", n: 6 }] };
  expect(() => requireSameRun(record, now)).toThrow(ConfigError);
  try {
    requireSameRun(record, now);
  } catch (error) {
    expect((error as ConfigError).issues.map(({ path }) => path)).toEqual([
      "seed",
      "lora.tiers",
      "workers.threads",
      "index.sha256",
      "clients.0.n",
    ]);
    expect((error as ConfigError).message).toMatch(/lora\.tiers {2}was \[1,8\] when the run began and is \[1,4,8\] now/);
    expect((error as ConfigError).message).toMatch(/index\.sha256 .*data and model/);
  }
});

test("a resume with more rounds is told how to start from this run's adapter", () => {
  const withRounds = (rounds: number) => ({ config: { rounds } });
  const another = "which would make it a different run: start it under another name";
  expect(() => requireSameRun(withRounds(2), withRounds(3))).toThrow(
    `rounds  was 2 when the run began and is 3 now, ${another}; with lora.init_from: RUN it starts from this run's adapter`,
  );
  expect(() => requireSameRun(withRounds(2), withRounds(1))).toThrow(/under another name$/);
});

test("another torch version is noted, and a record without data and model is accepted", () => {
  expect(requireSameRun(record, { ...record, versions: { torch: "2.14.0" } })).toEqual([
    { path: "versions.torch", was: "2.13.0", is: "2.14.0" },
  ]);
  const { name, config } = record;
  expect(requireSameRun({ name, config }, record)).toEqual([]);
});

const HASH = (digit: string) => digit.repeat(64);
const made = {
  ...record,
  model: { commit: null, weights: { "model.safetensors": HASH("1") }, tokenizer: { "tokenizer.json": HASH("2") }, config: {} },
  code: { "task.py": HASH("3"), "helper.py": HASH("4") },
  data: { sha256: HASH("5") },
};

function issuesOf(now: object, changedData: readonly string[] = []): ConfigError["issues"] {
  try {
    requireSameRun(made, now, changedData);
  } catch (error) {
    return (error as ConfigError).issues;
  }
  return [];
}

test("another model, code or data is refused with the names of the files, without the differences that follow from it", () => {
  const now = {
    ...made,
    model: { commit: "a".repeat(40), weights: { "model.safetensors": HASH("f") }, tokenizer: {}, config: { "config.json": HASH("6") } },
    code: { "task.py": HASH("3"), "helper.py": HASH("e") },
    data: { sha256: HASH("d") },
    index: { path: "/cache/b", sha256: "cd" },
    clients: [{ id: "c0", n: 6 }],
  };
  const another = "or start a run under another name";
  expect(issuesOf(now, ["7.png, which a row of data.path names, is missing"]).map(({ path, message }) => `${path}: ${message}`)).toEqual([
    `model.name_or_path: led to commit null when the run began and leads to aaaaaaaaaaaa… now: set model.revision to the first, ${another}`,
    "model.name_or_path: weights file model.safetensors of the model has changed since the run began " +
      `(SHA-256 expected 111111111111…, got ffffffffffff…): put it back, ${another}`,
    `model.name_or_path: tokenizer file tokenizer.json of the model is missing: put it back, ${another}`,
    `model.name_or_path: config file config.json of the model did not exist when the run began: put it back, ${another}`,
    "model.task: module helper.py of the task has changed since the run began " +
      `(SHA-256 expected 444444444444…, got eeeeeeeeeeee…): put it back, ${another}`,
    `data.path: 7.png, which a row of data.path names, is missing: put back what the run began with, ${another}`,
  ]);
  expect(issuesOf({ ...made, data: { sha256: HASH("d") } })[0]?.message).toMatch(/^the data has changed since the run began/);
});

test("another processor and other variables that choose kernels are noted", () => {
  const known = { ...made, variables: {}, device: { type: "cpu", name: "EPYC", capability: "AVX512" } };
  const now = { ...known, variables: { MKL_CBWR: "AVX2" }, device: { ...known.device, name: "Xeon", capability: "AVX2" } };
  expect(requireSameRun(known, now)).toEqual([
    { path: "variables.MKL_CBWR", is: "AVX2" },
    { path: "device.name", was: "EPYC", is: "Xeon" },
    { path: "device.capability", was: "AVX512", is: "AVX2" },
  ]);
});

test("a record from before models were recorded is refused as such; one of a run killed at its start is not", () => {
  expect(() => requireSameRun(record, made)).toThrow(/recorded by an earlier version of prelort/);
  const { name, config } = record;
  expect(requireSameRun({ name, config }, made)).toEqual([]);
});

test("options that have come or gone since a run was recorded make it no other, as long as they change nothing", () => {
  const now = { ...record, config: { ...record.config, fit: { local_steps: 10, lr: 1 } } };
  const before = (fit: object) => ({ ...record, config: { ...record.config, fit } });
  expect(requireSameRun(before({ lr: 1, batched_truncations: false }), now)).toEqual([]);
  expect(() => requireSameRun(before({ lr: 1, batched_truncations: true }), now)).toThrow(/fit\.batched_truncations {2}was true/);
  expect(() => requireSameRun(before({ lr: 1, local_steps: 9 }), now)).toThrow(
    /fit\.local_steps {2}was 9 when the run began and is 10 now/,
  );
});
