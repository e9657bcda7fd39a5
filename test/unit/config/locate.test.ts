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
  const error = await withConfig(await openConfig(file, options), async (config) => use(config)).catch((caught: unknown) => caught);
  if (!(error instanceof ConfigError)) throw new Error(`expected a ConfigError, got ${String(error)}`);
  return error.issues.map((issue) => ({ ...issue, ...(issue.location && { location: issue.location.replace(`${file}:`, "") }) }));
}

const throwing =
  (...issues: ConfigIssue[]) =>
  () => {
    throw new ConfigError(issues);
  };

it("rules that wait for the data tell their keys in YAML's spelling where they stand", async () => {
  expect(await locatedBy((config) => requireClients(config, 3))).toEqual([
    { path: "strategy.rank_assignment.ranks", message: "must hold one rank for each of the 3 data.clients, got 2", location: "3:41" },
    { path: "data.profiles", message: "must hold one profile for each of the 3 data.clients, got 2", location: "10:13" },
  ]);
});

it("what a worker finds wrong is told in the order of the file, a missing key where its section begins", async () => {
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

it("a path is told as it was written, and other paths stay", async () => {
  const whole = join(folder, "rows.jsonl");
  const told = throwing({ path: "data.path", message: `${whole}:3, ${whole}[7]: is wrong; not ${whole}.old nor ${whole}-2` });
  const [issue] = await locatedBy(told);
  expect(issue).toEqual({
    path: "data.path",
    message: `rows.jsonl:3, rows.jsonl[7]: is wrong; not ${whole}.old nor ${whole}-2`,
    location: "7:9",
  });
});

it("of a run's record only what an option gave has a place", async () => {
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

it("policies that a script brought are told as that, all of them at once, unless an option names others", () => {
  const strategy = { selection: { name: "largestFirst" }, rank_assignment: { name: "rankAssignment" }, aggregation: { name: "custom" } };
  const record = {
    rounds: 1,
    model: { name_or_path: "tiny", task: "causal-lm" },
    lora: { r: 8, target_modules: ["q"] },
    data: { path: join(folder, "rows.jsonl"), answer: "{gloss}", prompt: "", clients: 1 },
    strategy,
  };
  const issuesWith = (set: readonly string[]) => {
    try {
      openRecorded(record, "run.json", { set, inScript: "federate()" });
    } catch (error) {
      return (error as ConfigError).issues.map(({ path, message }) => `${path} ${message}`);
    }
    return [];
  };
  const why = "which the run's record cannot hold: in that script use federate()";
  expect(issuesWith([])).toEqual([
    `strategy.selection is a function of a script (largestFirst), ${why}`,
    `strategy.rank_assignment is a function of a script, ${why}`,
    `strategy.aggregation is an object of a script, ${why}`,
  ]);
  const others = ["selection={name: all}", "rank_assignment={name: list, ranks: [8]}", "aggregation={name: fedit}"];
  expect(issuesWith(others.map((key) => `strategy.${key}`))).toEqual([]);
});

it("what stands for a key without being an option is named alone", () => {
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

it("another error is passed on as it is", async () => {
  const { locate } = await openConfig(file);
  const error = new Error("disk is full");
  expect(locate(error)).toBe(error);
});

it("a path is read in either spelling, and lora's keys as PEFT has them", () => {
  expect(parsePath("data.profiles[10].memory_gib")).toEqual(["data", "profiles", 10, "memoryGiB"]);
  expect(parsePath("strategy.rankAssignment.ranks[0]")).toEqual(["strategy", "rankAssignment", "ranks", 0]);
  expect(parsePath("lora.target_modules")).toEqual(["lora", "target_modules"]);
});
