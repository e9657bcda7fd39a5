import { expect, test } from "vitest";
import { ConfigError } from "../../../src/errors.ts";
import { changedPolicies, requireSameRun } from "../../../src/records/resume-check.ts";

const record = {
  name: "a",
  prelort: "0.1.0",
  config: { name: "a", runs_dir: "runs", seed: 7, lora: { r: 8, tiers: [1, 8] }, record_updates: false, workers: { count: 2, threads: 1 } },
  versions: { torch: "2.13.0" },
  index: { path: "/cache/a", sha256: "ab" },
  clients: { count: 1, sha256: "12" },
};

test("a run can be resumed in another folder and with other workers", () => {
  const config = { ...record.config, name: "b", runs_dir: "/else", record_updates: true, workers: { count: 9, threads: 1, retries: 7 } };
  expect(requireSameRun(record, { ...record, name: "b", config, index: { path: "/other", sha256: "ab" } })).toEqual([]);
});

test("the adapter that a run started from may have moved before a resume, but not have changed or been removed from the config", () => {
  const begun = { ...record, init_from: { path: "/a", sha256: "ab" } };
  expect(requireSameRun(begun, { ...begun, init_from: { path: "/b", sha256: "ab" } })).toEqual([]);
  expect(() => requireSameRun(begun, { ...begun, init_from: { path: "/a", sha256: "cd" } })).toThrow(/init_from\.sha256/);
  expect(() => requireSameRun(begun, { ...begun, init_from: null })).toThrow(/init_from/);
});

test("every difference that would make it a different run is reported at once", () => {
  const config = { ...record.config, seed: 8, lora: { r: 8, tiers: [1, 4, 8] }, workers: { count: 2, threads: 4 } };
  const now = { ...record, config, index: { path: "/cache/a", sha256: "cd" }, clients: { count: 1, sha256: "34" } };
  expect(() => requireSameRun(record, now)).toThrow(ConfigError);
  try {
    requireSameRun(record, now);
  } catch (error) {
    expect((error as ConfigError).issues.map(({ path }) => path)).toEqual([
      "seed",
      "lora.tiers",
      "workers.threads",
      "index.sha256",
      "clients.sha256",
    ]);
    expect((error as ConfigError).issues[1]?.message).toMatch(/\[1,8\].*\[1,4,8\]/);
    expect((error as ConfigError).issues[3]?.message).toMatch(/\bdata and model\b/);
  }
});

test("the error of a resume with more rounds names lora.init_from", () => {
  const withRounds = (rounds: number) => ({ config: { rounds } });
  expect(() => requireSameRun(withRounds(2), withRounds(3))).toThrow(/\brounds\b.*\b2\b.*\b3\b.*\blora\.init_from\b/);
  expect(() => requireSameRun(withRounds(2), withRounds(1))).toThrow(/^(?!.*init_from).*\brounds\b.*\b2\b.*\b1\b/ms);
});

test("a resume notes another torch version, and accepts a record without data and model", () => {
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

test("a resume with another model, code or data is refused with the names of the files, without the differences that follow", () => {
  const now = {
    ...made,
    model: { commit: "a".repeat(40), weights: { "model.safetensors": HASH("f") }, tokenizer: {}, config: { "config.json": HASH("6") } },
    code: { "task.py": HASH("3"), "helper.py": HASH("e") },
    data: { sha256: HASH("d") },
    index: { path: "/cache/b", sha256: "cd" },
    clients: { count: 1, sha256: "34" },
  };
  const issue = (path: string, message: RegExp) => ({ path, message: expect.stringMatching(message) });
  expect(issuesOf(now, ["7.png, which a row of data.path names, is missing"])).toEqual([
    issue("model.name_or_path", /\bcommit null\b.*\baaaaaaaaaaaa….*\bmodel\.revision\b/),
    issue("model.name_or_path", /^weights file model\.safetensors\b.*\b111111111111….*\bffffffffffff…/),
    issue("model.name_or_path", /^tokenizer file tokenizer\.json\b.*\bmissing\b/),
    issue("model.name_or_path", /^config file config\.json\b.*\bdid not exist\b/),
    issue("model.task", /^module helper\.py\b.*\b444444444444….*\beeeeeeeeeeee…/),
    issue("data.path", /^7\.png, which a row of data\.path names, is missing\b/),
  ]);
  expect(issuesOf({ ...made, data: { sha256: HASH("d") } })).toEqual([issue("data.path", /^the data\b.*\b555555555555….*\bdddddddddddd…/)]);
});

test("a resume notes another processor and other variables that choose kernels", () => {
  const known = { ...made, variables: {}, device: { type: "cpu", name: "EPYC", capability: "AVX512" } };
  const now = { ...known, variables: { MKL_CBWR: "AVX2" }, device: { ...known.device, name: "Xeon", capability: "AVX2" } };
  expect(requireSameRun(known, now)).toEqual([
    { path: "variables.MKL_CBWR", is: "AVX2" },
    { path: "device.name", was: "EPYC", is: "Xeon" },
    { path: "device.capability", was: "AVX512", is: "AVX2" },
  ]);
});

test("a record from before models were recorded is refused as such, but not one of a run killed at its start", () => {
  expect(() => requireSameRun(record, made)).toThrow(/\bearlier version\b/);
  const { name, config } = record;
  expect(requireSameRun({ name, config }, made)).toEqual([]);
});

test("options added or removed since a run was recorded do not prevent a resume if they had no effect", () => {
  const now = { ...record, config: { ...record.config, fit: { local_steps: 10, lr: 1 } } };
  const before = (fit: object) => ({ ...record, config: { ...record.config, fit } });
  expect(requireSameRun(before({ lr: 1, batched_truncations: false }), now)).toEqual([]);
  expect(() => requireSameRun(before({ lr: 1, batched_truncations: true }), now)).toThrow(/fit\.batched_truncations\b.*\btrue\b/);
  expect(() => requireSameRun(before({ lr: 1, local_steps: 9 }), now)).toThrow(/fit\.local_steps\b.*\b9\b.*\b10\b/);
});

test("a policy's file counts by its content and name, and a changed one is named with both hashes", () => {
  const [was, is] = ["a".repeat(64), "b".repeat(64)];
  const recordOf = (folder: string, sha256: string) => ({
    config: { strategy: { selection: `${folder}/mine.mjs#two`, aggregation: { module: `${folder}/mine.mjs#mean`, beta: 1 } } },
    policies: { aggregation: { "mine.mjs": sha256 } },
  });
  expect(requireSameRun(recordOf("/a", was), recordOf("/b", was))).toEqual([]);
  expect(() => requireSameRun(recordOf("/a", was), recordOf("/a", is))).toThrow(
    /strategy\.aggregation {2}mine\.mjs has changed.*expected aaaaaaaaaaaa….*got bbbbbbbbbbbb….*put it back/,
  );
  const other = { ...recordOf("/a", was), policies: { aggregation: { "mine.mjs": was, "new.mjs": is } } };
  expect(() => requireSameRun(recordOf("/a", was), other)).toThrow(/new\.mjs did not exist/);
  const renamed = JSON.parse(JSON.stringify(recordOf("/a", was)).replace("#mean", "#other")) as object;
  expect(() => requireSameRun(recordOf("/a", was), renamed)).toThrow(/strategy\.aggregation\.module.*mine\.mjs#mean.*mine\.mjs#other/);
  expect(changedPolicies(recordOf("/a", was).policies, other.policies)).toEqual([expect.stringMatching(/^new\.mjs did not exist/)]);
  const both = { selection: { "mine.mjs": is }, aggregation: { "mine.mjs": is } };
  expect(changedPolicies({ selection: { "mine.mjs": was }, aggregation: { "mine.mjs": was } }, both)).toEqual([
    expect.stringMatching(/^mine\.mjs has changed.*aaaaaaaaaaaa….*bbbbbbbbbbbb…/),
  ]);
});
