import { type DeviceSetting, loopOn, trainOn } from "../device-run.ts";
import type { Experiment } from "../experiment.ts";
import type { Gpu } from "../gpu.ts";
import { TINYLLAMA } from "../shapes.ts";

/** FLoRA's ten clients (Wang et al., arXiv 2409.05976) on a Llama of 1.1 billion random weights. */
export const TINYLLAMA_ON_A_GPU: DeviceSetting = {
  device: "cuda:0",
  model: "tinyllama",
  shape: TINYLLAMA,
  dtype: "bf16",
  ranks: [64, 32, 16, 16, 8, 8, 4, 4, 4, 4],
  localSteps: 8,
  batchSize: 8,
  words: 256,
};

/** A round of a large model, against a plain loop over PyTorch and PEFT that trains the same batches at the same ranks. */
export function llama(setting: DeviceSetting, { lacks }: Pick<Gpu, "lacks">): Experiment {
  return {
    name: "llama",
    needs: { what: lacks ?? "", isThere: () => lacks === undefined },
    rows: [
      {
        name: "Llama of 1.1 billion weights, ten clients of ranks 64 to 4: samples a second",
        unit: "",
        ours: "samples",
        peer: "plain loop",
        target: { atLeast: 0.9 },
      },
      { name: "the same: peak memory", unit: "MiB", ours: "memory", peer: "plain loop, memory", target: { atMost: 1.1 } },
      {
        name: "the same: share of the round in which no worker trains",
        unit: "",
        ours: "idle",
        peer: { limit: 0.1 },
        target: { atMost: 1 },
      },
      { name: "the same: repeated runs with other bytes", unit: "of 1", ours: "other bytes", peer: { limit: 1 }, target: { atMost: 0 } },
    ],
    async measure(context) {
      const set = ["model.dtype=bf16"];
      const ours = await trainOn(setting, "llama", set, context);
      const loop = await loopOn(setting, ours.directory, context);
      const again = await trainOn(setting, "llama-again", set, context);
      return {
        samples: ours.samplesPerSecond,
        "plain loop": loop.samplesPerSecond,
        memory: ours.peakMiB,
        "plain loop, memory": loop.peakMiB,
        idle: ours.idleShare,
        "other bytes": ours.sha256 === again.sha256 ? 0 : 1,
      };
    },
  };
}
