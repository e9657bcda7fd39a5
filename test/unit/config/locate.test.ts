import { writeFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { requireClients } from "../../../src/config/client-rules.ts";
import { parsePath } from "../../../src/config/check.ts";
import { openConfig, openRecorded, withConfig, type LoadOptions } from "../../../src/config/load.ts";
import type { FileConfig } from "../../../src/config/schema.ts";
import { ConfigError, type ConfigIssue } from "../../../src/errors.ts";
import { issue, issuesOf } from "../../support/config-issues.ts";

const TEXT = `rounds: 3
strategy:
  rank_assignment: { name: list, ranks: [8, 2] }
model: { name_or_path: prelort:tiny, task: causal-lm }
lora: { r: 8, target_modules: all-linear }
data:
  path: rows.jsonl
  prompt: "{text}"
  answer: "{gloss}"
  profiles: [{ speed: 1 }, { memory_gib: 2 }]
  partition: { name: files }
`;

let folder: string;
let file: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "prelort-locate-"));
  file = join(folder, "run.yaml");
  await writeFile(file, TEXT);
  await writeFile(join(folder, "rows.jsonl"), "");
});
afterEach(() => rm(folder, { recursive: true }));

async function locatedBy(use: (config: FileConfig) => void, options: LoadOptions = {}): Promise<readonly ConfigIssue[]> {
  const loaded = await openConfig(file, options);
  const issues = await issuesOf(() => withConfig(loaded, async (config) => use(config)));
  return issues.map((found) => ({ ...found, ...(found.location && { location: found.location.replace(`${file}:`, "") }) }));
}

const throwing =
  (...issues: ConfigIssue[]) =>
  () => {
    throw new ConfigError(issues);
  };

it("rules that need the data report keys in YAML's spelling, located in the file", async () => {
  expect(await locatedBy((config) => requireClients(config, 3))).toEqual([
    issue("strategy.rank_assignment.ranks", [3, "data.clients", 2], "3:41"),
    issue("data.profiles", [3, "data.clients", 2], "10:13"),
  ]);
});

it("a worker's findings are reported in the order of the file, a missing key where its section begins", async () => {
  const issues = [
    { path: "data.evalPath", message: "has labels" },
    { path: "data.profiles[1].memoryGiB", message: "is too little" },
    { path: "model.quantization", message: "needs CUDA" },
    { path: "closing", message: "is odd" },
    { path: "run-dir", message: "is none of the config" },
  ];
  expect(await locatedBy(throwing(...issues))).toEqual([
    { path: "closing", message: "is odd", location: "1:1" },
    { path: "model.quantization", message: "needs CUDA", location: "4:1" },
    { path: "data.eval_path", message: "has labels", location: "6:1" },
    { path: "data.profiles[1].memory_gib", message: "is too little", location: "10:42" },
    { path: "run-dir", message: "is none of the config" },
  ]);
});

it("a key that an option gave is located by the option", async () => {
  const set = ["strategy.rank_assignment.ranks=[8]"];
  const given = [{ option: "--data", assignment: "data.eval_path=rows" }];
  const issues = [
    { path: "data.evalPath", message: "a" },
    { path: "strategy.rankAssignment.ranks", message: "b" },
  ];
  expect(await locatedBy(throwing(...issues), { set, given })).toEqual([
    { path: "data.eval_path", message: "a", location: "--data" },
    { path: "strategy.rank_assignment.ranks", message: "b", location: "--set strategy.rank_assignment.ranks" },
  ]);
});

it("a path is reported as it was written, and other paths are unchanged", async () => {
  const whole = join(folder, "rows.jsonl");
  const told = throwing({ path: "data.path", message: `${whole}:3, ${whole}[7]: is wrong; not ${whole}.old nor ${whole}-2` });
  const [issue] = await locatedBy(told);
  expect(issue).toEqual({
    path: "data.path",
    message: `rows.jsonl:3, rows.jsonl[7]: is wrong; not ${whole}.old nor ${whole}-2`,
    location: "7:9",
  });
});

it("in a run's record only keys that an option set are located", async () => {
  const { config } = await openConfig(file);
  const record = {
    rounds: 1,
    model: { name_or_path: "tiny", task: "causal-lm" },
    lora: config.lora,
    strategy: { rank_assignment: { name: "list", ranks: [8] } },
  };
  const data = { path: join(folder, "rows.jsonl"), answer: "{gloss}", prompt: "", clients: 1 };
  const loaded = openRecorded({ ...record, data }, "run.json", { set: ["workers.count=2"], inScript: "federate" });
  expect(loaded.config.data.path).toBe(data.path);
  const issues = [
    { path: "workers.count", message: "a" },
    { path: "data.maxLength", message: "b" },
  ];
  expect((loaded.locate(new ConfigError(issues)) as ConfigError).issues).toEqual([
    { path: "data.max_length", message: "b" },
    { path: "workers.count", message: "a", location: "--set workers.count" },
  ]);
});

it("all policies from a script are reported together, unless an option replaces them", async () => {
  const strategy = { selection: { name: "largestFirst" }, rank_assignment: { name: "rankAssignment" }, aggregation: { name: "custom" } };
  const record = {
    rounds: 1,
    model: { name_or_path: "tiny", task: "causal-lm" },
    lora: { r: 8, target_modules: ["q"] },
    data: { path: join(folder, "rows.jsonl"), answer: "{gloss}", prompt: "", clients: 1 },
    strategy,
  };
  const open = (set: readonly string[]) => openRecorded(record, "run.json", { set, inScript: "federate()" });
  const issues = await issuesOf(() => open([]));
  expect(issues.map(({ path, message }) => ({ path, message }))).toEqual([
    issue("strategy.selection", ["function", "largestFirst", "federate()"]),
    issue("strategy.rank_assignment", ["function", "federate()"]),
    issue("strategy.aggregation", ["object", "federate()"]),
  ]);
  const others = ["selection={name: all}", "rank_assignment={name: list, ranks: [8]}", "aggregation={name: fedit}"];
  open(others.map((key) => `strategy.${key}`));
});

it("an argument that sets a key is reported by its own name", () => {
  const given = [{ option: "run-dir", assignment: `lora.init_from=${folder}` }];
  const record = {
    rounds: 1,
    model: { name_or_path: "tiny", task: "causal-lm" },
    lora: { r: 8, target_modules: ["q"] },
    data: { path: join(folder, "rows.jsonl"), answer: "{gloss}", prompt: "", clients: 1 },
    strategy: { rank_assignment: { name: "list", ranks: [8] } },
  };
  writeFileSync(join(folder, "run.json"), "{}");
  const { locate } = openRecorded(record, "run.json", { given, inScript: "federate()" });
  const located = locate(new ConfigError([{ path: "lora.init_from", message: "is empty" }])) as ConfigError;
  expect(located.issues).toEqual([{ path: "run-dir", message: "is empty", isArgument: true }]);
});

it("any other error is unchanged", async () => {
  const { locate } = await openConfig(file);
  const error = new Error("disk is full");
  expect(locate(error)).toBe(error);
});

it("paths are parsed in either spelling, and keys of lora in PEFT's", () => {
  expect(parsePath("data.profiles[10].memory_gib")).toEqual(["data", "profiles", 10, "memoryGiB"]);
  expect(parsePath("strategy.rankAssignment.ranks[0]")).toEqual(["strategy", "rankAssignment", "ranks", 0]);
  expect(parsePath("lora.target_modules")).toEqual(["lora", "target_modules"]);
});
