import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { federate, fedRoRA, fLoRA, InterruptedError, productDeltas, roundRobinSelection } from "../../../../src/index.ts";
import { tinyLauncher, tinyRun } from "../../../../src/testing/index.ts";

let runsDir: string;
beforeEach(() => {
  runsDir = mkdtempSync(path.join(tmpdir(), "prelort-resumed-state-"));
});
afterEach(() => rmSync(runsDir, { recursive: true }));

it.each([
  ["product deltas, by their velocity", { aggregation: productDeltas() }],
  ["FLoRA with increments of rank 2, by what it has not merged yet", { aggregation: fLoRA({ incrementRank: 2 }) }],
  [
    "FedRoRA, by the magnitudes of clients that were in the round and of those that were not",
    { aggregation: fedRoRA(), selection: roundRobinSelection({ fraction: 0.5 }) },
  ],
])("a run that is interrupted and resumed ends with the same bytes: %s", async (_, strategy) => {
  const options = { runsDir, strategy };
  const whole = await federate(tinyRun({ ...options, name: "whole" })).result;
  const controller = new AbortController();
  const launcher = tinyLauncher({
    fit({ round, train }) {
      if (round === 3) controller.abort();
      return train();
    },
  });
  const halves = { ...options, name: "halves" };
  await expect(federate(tinyRun({ ...halves, signal: controller.signal, launcher })).result).rejects.toThrow(InterruptedError);
  const resumed = await federate(tinyRun({ ...halves, resume: true })).result;
  expect(resumed.sha256).toBe(whole.sha256);
  const state = (name: string) => readFileSync(path.join(runsDir, name, "rounds", "3", "server-state.safetensors"));
  expect(state("halves").equals(state("whole"))).toBe(true);
});
