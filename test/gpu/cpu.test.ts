import { TINY } from "../bench/shapes.ts";
import { deviceLaws } from "../support/device-laws.ts";

const setting = {
  device: "cpu",
  model: "tiny",
  shape: TINY,
  dtype: "f32",
  ranks: [4, 2, 2],
  localSteps: 4,
  batchSize: 4,
  words: 12,
} as const;

// What test/gpu tries on a card, as far as a CPU has it.
deviceLaws(setting, { f32: undefined, bf16: undefined, slots: undefined });
