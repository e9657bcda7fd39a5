import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { createRunDirectory } from "../../../src/records/run-directory.ts";
import { encodeBegun, encodeReady, isReady, readReadyRecord, readRecord, runRecord } from "../../../src/records/run-record.ts";

const begun = {
  name: "a",
  prelort: "0.1.0",
  method: { name: "segment-wise", note: "a note" },
  doubts: [],
  config: { rounds: 2, model: { name_or_path: "m", revision: undefined }, seed: 7 },
  init_from: { path: "/b", sha256: "12", configSha256: "34", round: 3 },
};
const ready = {
  versions: { node: "v20", torch: "2.13.0" },
  variables: { MKL_CBWR: "AVX2" },
  device: { type: "cuda", name: "GPU", capability: "sm_90", memoryBytes: 1e9 },
  model: { commit: null, weights: { "model_part.safetensors": "56" }, tokenizer: {}, config: { "config.json": "78" } },
  code: { "my_task.py": "9a" },
  data: { sha256: "bc" },
  index: { path: "/i", sha256: "de" },
  labels: ["x_y"],
  eval_examples: 4,
  truncated_examples: 1,
  remarks: [],
  clients: { count: 1, sha256: "ef".repeat(32) },
  base_parameters: 100,
  layout: {
    r: 2,
    tiers: [1, 2],
    scale: 2,
    modules: [{ name: "my_module.q", in: 3, out: 4, offset: 0 }],
    width: 7,
    dense: [{ name: "head_layer.weight", shape: [1, 2], offset: 0 }],
    denseSize: 2,
  },
  peft: { taskType: "CAUSAL_LM", modulesToSave: ["head_layer"] },
  left_out: [{ name: "embeddings", kind: "Embedding", count: 1, parameters: 9 }],
};

/** Keys and their order must not change: run directories on users' disks have them. */
const WRITTEN =
  '{"name":"a","prelort":"0.1.0","method":{"name":"segment-wise","note":"a note"},"doubts":[],' +
  '"config":{"rounds":2,"model":{"name_or_path":"m"},"seed":7},' +
  '"init_from":{"path":"/b","sha256":"12","config_sha256":"34","round":3},' +
  '"versions":{"node":"v20","torch":"2.13.0"},"variables":{"MKL_CBWR":"AVX2"},' +
  '"device":{"type":"cuda","name":"GPU","capability":"sm_90","memory_bytes":1000000000},' +
  '"model":{"commit":null,"weights":{"model_part.safetensors":"56"},"tokenizer":{},"config":{"config.json":"78"}},' +
  '"code":{"my_task.py":"9a"},"data":{"sha256":"bc"},"index":{"path":"/i","sha256":"de"},"labels":["x_y"],' +
  '"eval_examples":4,"truncated_examples":1,"remarks":[],' +
  `"clients":{"count":1,"sha256":"${"ef".repeat(32)}"},"base_parameters":100,` +
  '"layout":{"r":2,"tiers":[1,2],"scale":2,"modules":[{"name":"my_module.q","in":3,"out":4,"offset":0}],"width":7,' +
  '"dense":[{"name":"head_layer.weight","shape":[1,2],"offset":0}],"dense_size":2},' +
  '"peft":{"task_type":"CAUSAL_LM","modules_to_save":["head_layer"]},' +
  '"left_out":[{"name":"embeddings","kind":"Embedding","count":1,"parameters":9}]}';

function temporary(): string {
  const folder = mkdtempSync(path.join(tmpdir(), "prelort-record-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

test("run.json has fixed keys in a fixed order, and is read back as it was written", async () => {
  const directory = await createRunDirectory({ runsDir: temporary(), name: "a" });
  await directory.writeRecord({ ...encodeBegun(begun), ...encodeReady(ready) });
  await directory.close();
  const text = readFileSync(path.join(directory.path, "run.json"), "utf8");
  expect(text).toBe(`${JSON.stringify(JSON.parse(WRITTEN), null, 2)}\n`);
  const { config, ...rest } = await readReadyRecord(directory.path, runRecord);
  expect(rest).toEqual({ ...begun, ...ready, config: undefined });
  expect(config).toEqual({ rounds: 2, model: { name_or_path: "m" }, seed: 7 });
});

test("a record without what a reader needs is refused with the missing keys, and its other content is ignored", async () => {
  const folder = temporary();
  const record = { labels: [], peft: { task_type: null, modules_to_save: [] }, later: { version: 2 } };
  writeFileSync(path.join(folder, "run.json"), JSON.stringify(record));
  expect(await readReadyRecord(folder, runRecord.pick({ labels: true, peft: true }))).toEqual({
    labels: [],
    peft: { taskType: null, modulesToSave: [] },
  });
  expect(await readRecord(folder)).toEqual(record);
  await expect(readReadyRecord(folder, runRecord.pick({ eval_examples: true, labels: true }))).rejects.toMatchObject({
    kind: "config",
    message: expect.stringMatching(/run\.json\b.*\beval_examples\b/),
  });
});

test("a record is ready once it describes the data and the model", () => {
  expect(isReady(encodeBegun(begun))).toBe(false);
  expect(isReady({ ...encodeBegun(begun), ...encodeReady(ready) })).toBe(true);
});

test("a file in place of a run's folder is refused as a file", async () => {
  await expect(readRecord("configs/quickstart.yaml")).rejects.toThrow(/configs\/quickstart\.yaml is a file\b/);
});
