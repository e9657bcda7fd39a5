import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { buildRun, describeConfig } from "../../../src/config/build.ts";
import { addressProblem } from "../../../src/config/cluster-address.ts";
import { loadConfig, recordedConfig } from "../../../src/config/load.ts";
import { comparableConfig } from "../../../src/config/recorded-config.ts";
import { issue, issuesOf } from "../../support/config-issues.ts";

const BASE = `seed: 7
rounds: 3
strategy:
  rank_assignment: { name: tiered, shares: { 8: 0.25, 2: 0.75 } }
model: { name_or_path: prelort:tiny, task: causal-lm }
lora: { r: 8 }
data: { path: prelort:words, prompt: "{word}", answer: "{gloss}", clients: 4 }
`;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "prelort-cluster-"));
  await mkdir(join(folder, "keys"));
  await writeFile(join(folder, "keys/token"), "secret");
});
afterEach(() => rm(folder, { recursive: true }));

const cluster = { name: "ray", address: "http://127.0.0.1:8265", count: 4 };

async function load(changes: object, workers: object = { transport: "tcp" }, set: readonly string[] = []) {
  const file = join(folder, "run.yaml");
  await writeFile(file, `${BASE}workers: ${JSON.stringify({ ...workers, cluster: { ...cluster, ...changes } })}\n`);
  return loadConfig(file, { set });
}
const issuesIn = async (...args: Parameters<typeof load>) =>
  (await issuesOf(() => load(...args))).map(({ path, message }) => ({ path, message }));

describe("workers.cluster", () => {
  test("keeps the cluster's spelling of resources and of the runtime environment, in the file, by --set and in a record", async () => {
    const resources = { CPU: 4, GPU: 0.5, "accelerator_type:A100": 0.001 };
    const runtime_env = { env_vars: { HF_HOME: "/hub", my_own: "1" }, pip: ["torch"] };
    const config = await load({ resources, runtime_env }, undefined, ["workers.cluster.runtime_env.env_vars.NEW_one=2"]);
    const expected = { ...runtime_env, env_vars: { ...runtime_env.env_vars, NEW_one: 2 } };
    expect(config.workers.cluster).toMatchObject({ resources, runtimeEnv: expected });
    const record = JSON.parse(JSON.stringify(describeConfig(buildRun(config)))) as object;
    expect(record).toMatchObject({ workers: { cluster: { resources, runtime_env: expected } } });
    expect(comparableConfig(record)).toMatchObject({ workers: { cluster: { resources, runtime_env: expected } } });
    expect(recordedConfig(record, "run.json", { inScript: "federate" }).workers).toEqual(config.workers);
  });

  test("its token's file is looked for beside the config, and must be readable", async () => {
    const { workers } = await load({ token_file: "keys/token" });
    expect(workers.cluster?.tokenFile).toBe(join(folder, "keys/token"));
    expect(await issuesIn({ token_file: "keys/tokn" })).toEqual([issue("workers.cluster.token_file", ["did you mean keys/token"])]);
    expect(await issuesIn({ token_file: "keys" })).toEqual([issue("workers.cluster.token_file")]);
    await chmod(join(folder, "keys/token"), 0);
    // The superuser may read it all the same.
    if (process.getuid?.() !== 0)
      expect(await issuesIn({ token_file: "keys/token" })).toEqual([issue("workers.cluster.token_file", ["EACCES"])]);
  });

  test("goes with tcp, and with none of the keys that choose machines", async () => {
    const keys = { count: 2, slots_per_device: 2, devices: ["cpu"], hosts: ["a"], command: ["ssh", "{host}"] };
    for (const [key, value] of Object.entries(keys)) {
      const found = await issuesIn({}, { transport: "tcp", [key]: value });
      expect(found).toContainEqual(issue(`workers.${key}`, ["cannot be combined with workers.cluster"]));
    }
    expect(await issuesIn({}, {})).toEqual([issue("workers.cluster", ["needs workers.transport: tcp"])]);
  });

  test("asks for as many workers as it says", async () => {
    expect((await load({ count: { min: 2, max: 8 } })).workers.cluster?.count).toEqual({ min: 2, max: 8 });
    expect(await issuesIn({ count: { min: 9, max: 8 } })).toEqual([issue("workers.cluster.count.min", [8, 9])]);
    expect(await issuesIn({ count: 0 })).toEqual([issue("workers.cluster.count")]);
    expect(await issuesIn({ resources: { CPU: 0 } })).toEqual([issue("workers.cluster.resources.CPU")]);
  });

  test("does not let the runtime environment replace prelort's code", async () => {
    expect(await issuesIn({ runtime_env: { working_dir: "." } })).toEqual([issue("workers.cluster.runtime_env.working_dir")]);
  });

  test("refuses plain http to another machine, unless the network is declared trusted", async () => {
    const address = "http://head.example.com:8265";
    expect(await issuesIn({ address })).toEqual([issue("workers.cluster.address", ["tunnel", "trusted_network: true"])]);
    expect((await load({ address, trusted_network: true })).workers.cluster?.trustedNetwork).toBe(true);
  });
});

test.each([
  ["https://head.example.com/ray", undefined],
  ["http://localhost:8265", undefined],
  ["http://127.8.0.1:8265", undefined],
  ["http://[::1]:8265", undefined],
  ["http://10.0.0.5:8265", "10.0.0.5"],
  ["http://127.0.0.1.example.com", "127.0.0.1.example.com"],
  ["ray://head:10001", "ray://head:10001"],
  ["head:8265", "head:8265"],
  ["http://me:secret@127.0.0.1:8265", "token_file"],
  ["http://127.0.0.1:8265/#jobs", "http://127.0.0.1:8265/#jobs"],
])("the address %s of a cluster is safe, or refused with what is wrong", (address, fact) => {
  const problem = addressProblem(address, false);
  if (fact === undefined) expect(problem).toBeUndefined();
  else expect(problem).toContain(fact);
  expect(problem ?? "").not.toContain("secret");
});
