import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { common } from "../../../src/config/sections.ts";
import { rememberCode, unnamedCode, unnamedPolicies } from "../../../src/records/named-code.ts";
import { environmentPython } from "../../../src/installation.ts";

let cache: string;
beforeEach(() => {
  cache = mkdtempSync(path.join(tmpdir(), "prelort-cache-"));
  vi.stubEnv("PRELORT_CACHE", cache);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(cache, { recursive: true });
});

const configOf = (model: object, python?: string) => ({
  model: common.model.parse({ nameOrPath: "m", task: "causal-lm", ...model }),
  workers: { python },
});

test("a built-in task in the default environment needs no code to be named", async () => {
  for (const config of [configOf({}), configOf({}, environmentPython())]) {
    expect(unnamedCode(config)).toEqual([]);
    await rememberCode(config);
  }
  expect(readdirSync(cache)).toEqual([]);
});

test("an interpreter, a custom task and a model's code are allowed once named, but similar ones are not", async () => {
  const config = configOf({ task: "mine:Task", taskFolder: "/tasks", trustRemoteCode: true }, "/opt/python");
  expect(unnamedCode(config)).toEqual([
    { key: "workers.python", value: "/opt/python" },
    { key: "model.task_folder", value: "/tasks" },
    { key: "model.trust_remote_code", value: "true" },
  ]);
  await rememberCode(config);
  expect(unnamedCode(config)).toEqual([]);
  expect(
    unnamedCode(configOf({ task: "other:Task", taskFolder: "/tasks", trustRemoteCode: true, revision: "x" }, "/opt/python3")),
  ).toHaveLength(3);
  // A name on PATH is not a file of the working directory.
  expect(unnamedCode(configOf({}, "python3"))).toEqual([{ key: "workers.python", value: "python3" }]);
});

test("a command and a cluster are used once named, and a token goes to no cluster that only a record names", async () => {
  const { model } = configOf({});
  const cluster = {
    name: "ray",
    address: "https://ray.example.com",
    tokenFile: "/token",
    resources: {},
    count: 1,
    trustedNetwork: false,
  } as const;
  const config = { model, workers: { command: ["ssh", "gpu-1"], cluster } };
  expect(unnamedCode(config)).toEqual([
    { key: "workers.command", value: '["ssh","gpu-1"]' },
    { key: "workers.cluster.address", value: "https://ray.example.com" },
    { key: "workers.cluster.token_file", value: "/token" },
  ]);
  await rememberCode(config);
  expect(unnamedCode(config)).toEqual([]);
  const keysFor = (other: object) => unnamedCode({ model, workers: { cluster: { ...cluster, ...other } } }).map(({ key }) => key);
  expect(keysFor({ address: "https://example.com" })).toEqual(["workers.cluster.address", "workers.cluster.token_file"]);
  expect(keysFor({ tokenFile: "/other" })).toEqual(["workers.cluster.token_file"]);
  // It chooses what the cluster installs and starts.
  expect(keysFor({ runtimeEnv: { pip: ["somebody-elses-package"] } })).toEqual(["workers.cluster.runtime_env"]);
});

test("a policy's file is run once named, for whatever policy and options, and without code nothing is", async () => {
  const strategyOf = (module: string) => ({ selection: { module }, aggregation: { module, options: { beta: 1 } } });
  const config = { ...configOf({}), strategy: strategyOf("/mine.mjs#mean") };
  expect(unnamedCode(config)).toEqual([
    { key: "strategy.selection", value: "/mine.mjs#mean" },
    { key: "strategy.aggregation.module", value: "/mine.mjs#mean" },
  ]);
  // As a run has it: the policy that was made from the file.
  const made = Object.assign(() => [], { policy: { name: "mine.mjs#mean", module: "/mine.mjs#mean" } });
  await rememberCode({ ...configOf({}), strategy: { selection: made } });
  expect(unnamedCode(config)).toEqual([]);
  expect(unnamedPolicies(strategyOf("/mine.mjs#other"))).toHaveLength(2);
  expect(unnamedPolicies({ selection: { name: "all" }, aggregation: () => [] })).toEqual([]);
});
