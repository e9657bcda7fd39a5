import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { validateRun } from "../../../src/config/build.ts";
import { loadConfig } from "../../../src/config/load.ts";
import type { RunInput } from "../../../src/config/schema.ts";
import { fedPLoRA } from "../../../src/strategy/aggregation/fed-plora.ts";
import { fedRoRA } from "../../../src/strategy/aggregation/fedrora.ts";
import { segmentWise } from "../../../src/strategy/aggregation/segment-wise.ts";
import { listRanks } from "../../../src/strategy/ranks/list.ts";
import { allClients } from "../../../src/strategy/selection/all.ts";
import { issue, issuesOf } from "../../support/config-issues.ts";

const input: RunInput = {
  name: "tail",
  rounds: 1,
  model: { task: "sequence-classification", nameOrPath: "tiny" },
  data: { path: "t.csv", text: "{text}", label: "label", clients: 2 },
  lora: { r: 2 },
  strategy: { selection: allClients(), rankAssignment: listRanks([1, 2]), aggregation: segmentWise() },
};

test("a tail that acts must act in a step, on a base model that can hold it", async () => {
  const issues = (fit: RunInput["fit"], model = {}) =>
    issuesOf(async () => validateRun({ ...input, fit, model: { ...input.model, ...model } }));
  expect(() => validateRun({ ...input, fit: { actingTail: 0.5, localSteps: 2 } })).not.toThrow();
  expect(() => validateRun({ ...input, model: { ...input.model, dtype: "bf16" } })).not.toThrow();
  expect(await issues({ actingTail: 0.2, localSteps: 4 })).toMatchObject([
    { path: "fit.actingTail", message: expect.stringContaining("0.25") },
  ]);
  expect(await issues({ actingTail: 0.5, localSteps: 2 }, { dtype: "bf16" })).toMatchObject([
    { path: "fit.actingTail", message: expect.stringContaining("bf16") },
  ]);
});

test("Fed-PLoRA folds what a client does not train in every step", async () => {
  const strategy = { ...input.strategy, aggregation: fedPLoRA() };
  expect(() => validateRun({ ...input, strategy, fit: { actingTail: 1 } })).not.toThrow();
  for (const fit of [{}, { actingTail: 0.5 }]) {
    expect(await issuesOf(async () => validateRun({ ...input, strategy, fit }))).toMatchObject([
      { path: "fit.actingTail", message: expect.stringContaining("must be 1 with fed-plora") },
    ]);
  }
});

test("no tail can act where components are chosen for each client", async () => {
  const own = { ...segmentWise(), policy: { name: "mine" }, distributeTo: fedRoRA().distributeTo! };
  for (const aggregation of [fedRoRA(), own]) {
    const strategy = { ...input.strategy, aggregation };
    expect(() => validateRun({ ...input, strategy })).not.toThrow();
    expect(await issuesOf(async () => validateRun({ ...input, strategy, fit: { actingTail: 1 } }))).toMatchObject([
      { path: "fit.actingTail", message: expect.stringContaining(aggregation.policy!.name) },
    ]);
  }
});

test("a file that asks for both is refused at the key", async () => {
  const folder = mkdtempSync(path.join(tmpdir(), "prelort-acting-tail-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = path.join(folder, "run.yaml");
  writeFileSync(
    file,
    `rounds: 3
strategy:
  rank_assignment: { name: tiered, shares: { 8: 1 } }
  aggregation: { name: fedrora }
model: { name_or_path: prelort:tiny, task: causal-lm }
lora: { r: 8, target_modules: all-linear }
data: { path: prelort:words, prompt: "{word}", answer: "{gloss}", clients: 4 }
fit: { acting_tail: 1 }
`,
  );
  expect(await issuesOf(() => loadConfig(file))).toEqual([issue("fit.acting_tail", ["fedrora"], `${file}:8:21`)]);
});
