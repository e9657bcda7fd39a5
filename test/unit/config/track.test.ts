import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { buildRun, describeConfig } from "../../../src/config/build.ts";
import { loadConfig, recordedConfig } from "../../../src/config/load.ts";
import { requireSameRun } from "../../../src/records/resume-check.ts";
import { issue, issuesOf } from "../../support/config-issues.ts";

const BASE = `rounds: 3
strategy:
  rank_assignment: { name: tiered, shares: { 8: 0.25, 2: 0.75 } }
model: { name_or_path: prelort:tiny, task: causal-lm }
lora: { r: 8 }
data: { path: prelort:words, prompt: "{word}", answer: "{gloss}", clients: 4 }
`;

let file: string;
beforeEach(async () => {
  file = join(await mkdtemp(join(tmpdir(), "prelort-track-")), "run.yaml");
});
afterEach(() => rm(join(file, ".."), { recursive: true }));

async function load(track: string) {
  await writeFile(file, `${BASE}track: ${track}\n`);
  return loadConfig(file);
}

test("a tracker is a name, or a map with its options", async () => {
  const { track } = await load(`[tensorboard, { name: mlflow, tracking_uri: "http://h:5000/a", run_name: b }]`);
  expect(track).toEqual([{ name: "tensorboard" }, { name: "mlflow", trackingUri: "http://h:5000/a", runName: "b" }]);
  const options = "project: a, entity: b, group: c, tags: [d, e], run_name: f, mode: offline";
  const asked = { project: "a", entity: "b", group: "c", tags: ["d", "e"], runName: "f", mode: "offline" };
  expect((await load(`[{ name: wandb, ${options} }]`)).track).toEqual([{ name: "wandb", ...asked }]);
});

test("a record is read as it was written, and another list of trackers is the same run", async () => {
  const recorded = describeConfig(buildRun(await load(`[trackio, { name: mlflow, experiment: a }]`)));
  const config = recordedConfig(JSON.parse(JSON.stringify(recorded)), "run.json", { inScript: "…" });
  expect(config.track).toEqual([{ name: "trackio" }, { name: "mlflow", experiment: "a" }]);
  const without = describeConfig(buildRun(await load("[]")));
  expect(requireSameRun({ config: recorded }, { config: without })).toEqual([]);
  expect(requireSameRun({ config: { ...without, track: undefined } }, { config: recorded })).toEqual([]);
});

test("unknown names, unknown options and a tracker that is listed twice are refused", async () => {
  const issues = await issuesOf(() => load(`[mlflo, { name: trackio, projekt: a }]`));
  expect(issues).toEqual([issue("track[0]", ["mlflow"], `${file}:7:9`), issue("track[1].projekt", ["project"], `${file}:7:33`)]);
  expect(await issuesOf(() => load(`[mlflow, { name: mlflow, experiment: a }]`))).toEqual([issue("track", ["twice"], `${file}:7:8`)]);
});

test.each([
  ["{ name: wandb, api_key: hunter22 }", "track[0].api_key"],
  ["{ name: wandb, key: hunter22 }", "track[0].key"],
  ["{ name: mlflow, api_key: hunter22 }", "track[0].api_key"],
  ["{ name: mlflow, token: hunter22 }", "track[0].token"],
  ["{ name: trackio, hf_token: hunter22 }", "track[0].hf_token"],
  ["{ name: mlflow, password: hunter22 }", "track[0].password"],
  [`{ name: mlflow, tracking_uri: "https://me:hunter22@h/" }`, "track[0].tracking_uri"],
  [`{ name: mlflow, tracking_uri: "postgresql://me:hunter22@h/a" }`, "track[0].tracking_uri"],
  [`{ name: mlflow, tracking_uri: "https://h/?access_token=hunter22" }`, "track[0].tracking_uri"],
  [`{ name: mlflow, tracking_uri: "https://h/#access_token=hunter22" }`, "track[0].tracking_uri"],
  [`{ name: mlflow, tracking_uri: "https://h/?a=b#/a?b=c;token=hunter22" }`, "track[0].tracking_uri"],
])("credentials in %s are refused with the variable to set, and not shown", async (tracker, path) => {
  const issues = await issuesOf(() => load(`[${tracker}]`));
  expect(issues).toEqual([issue(path, ["WANDB_API_KEY", "MLFLOW_TRACKING_TOKEN"], expect.any(String) as string)]);
  expect(JSON.stringify(issues)).not.toContain("hunter22");
});
