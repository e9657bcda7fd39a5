import { expect, test } from "vitest";
import { validateRun } from "../../../src/config/build.ts";
import type { RunInput } from "../../../src/config/schema.ts";
import { segmentWise } from "../../../src/strategy/aggregation/segment-wise.ts";
import { listRanks } from "../../../src/strategy/ranks/list.ts";
import { allClients } from "../../../src/strategy/selection/all.ts";
import { issuesOf } from "../../support/config-issues.ts";

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
