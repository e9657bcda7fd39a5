import { expect, test } from "vitest";
import type { DeviceSetting } from "../bench/device-run.ts";
import { kindExperiments } from "../bench/experiments/gpu-kinds.ts";
import { llama } from "../bench/experiments/gpu-llama.ts";
import { runExperiments } from "../bench/run-experiments.ts";
import { TINY } from "../bench/shapes.ts";
import { python, temporaryFolder } from "../support/e2e.ts";

// What npm run bench -- --gpu measures, on a CPU: its code, not its figures.

const folder = temporaryFolder();
const setting: DeviceSetting = {
  device: "cpu",
  model: "tiny",
  shape: TINY,
  dtype: "bf16",
  ranks: [4, 2, 2],
  localSteps: 2,
  batchSize: 4,
  words: 12,
};

test("the GPU experiments give every row a figure, and repeat their bytes", async () => {
  const context = { python, flower: "", folder: folder(), signal: new AbortController().signal };
  const here = { lacks: undefined, packages: [] };
  const experiments = [...kindExperiments(setting, here).filter(({ name }) => name === "slots"), llama(setting, here)];
  const { rows, notRun, failed } = await runExperiments(experiments, 1, context, () => {});
  expect([notRun, failed]).toEqual([[], []]);
  expect(rows).toHaveLength(experiments.flatMap((experiment) => experiment.rows).length);
  for (const { name, ours, peer } of rows) {
    const isPeak = name.endsWith("peak memory");
    if (name.includes("other bytes")) expect(ours, name).toBe(0);
    // A process that has imported PyTorch has more than 50 MiB.
    else expect(Math.min(ours, peer), name).toBeGreaterThan(isPeak ? 50 : 0);
  }
});
