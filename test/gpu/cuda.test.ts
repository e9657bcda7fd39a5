import { examineGpu } from "../bench/gpu.ts";
import { KINDS, lacksFor } from "../bench/kinds.ts";
import { SMALL } from "../bench/shapes.ts";
import { deviceLaws } from "../support/device-laws.ts";

// Answers longer than a block of the attention's kernels.
const setting = {
  device: "cuda:0",
  model: "small",
  shape: SMALL,
  dtype: "f32",
  ranks: [16, 8, 8],
  localSteps: 4,
  batchSize: 4,
  words: 200,
} as const;
const gpu = await examineGpu();

deviceLaws(setting, Object.fromEntries(Object.entries(KINDS).map(([name, kind]) => [name, lacksFor(kind, gpu)])));
