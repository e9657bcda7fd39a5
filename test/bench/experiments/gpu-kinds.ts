import { type DeviceSetting, loopOn, type Looped, type Trained, trainOn } from "../device-run.ts";
import type { Context, Experiment } from "../experiment.ts";
import type { Gpu } from "../gpu.ts";
import { type Kind, KINDS, lacksFor } from "../kinds.ts";
import { SMOLLM2 } from "../shapes.ts";

/** Half a minute for each kind on a recent card, most of it starts. */
export const SMOLLM2_ON_A_GPU: DeviceSetting = {
  device: "cuda:0",
  model: "smollm2",
  shape: SMOLLM2,
  dtype: "f32",
  ranks: [16, 8, 4, 2],
  localSteps: 8,
  batchSize: 8,
  words: 256,
};

const PLAIN_LOOP = "plain loop";

/** Every kind of training: whether its bytes repeat, its speed and its memory. */
export function kindExperiments(setting: DeviceSetting, gpu: Pick<Gpu, "lacks" | "packages">): readonly Experiment[] {
  const trained = new Map<string, Promise<Trained>>();
  const first = (name: string, context: Context, repeat: number): Promise<Trained> => {
    const key = `${name}-${repeat}`;
    // What several are measured against trains once in a repeat.
    const run = trained.get(key) ?? trainOn(setting, key, (KINDS[name] as Kind).set, context);
    trained.set(key, run);
    return run;
  };
  return Object.entries(KINDS).map(([name, kind]) => {
    const { against = PLAIN_LOOP, sameBytesAs } = kind;
    const lacks = lacksFor(kind, gpu);
    return {
      name,
      needs: { what: lacks ?? "", isThere: () => lacks === undefined },
      rows: [
        {
          name: `${name}: runs with other bytes than ${sameBytesAs ?? "the first"}`,
          unit: "of 1",
          ours: "other bytes",
          peer: { limit: 1 },
          target: { atMost: 0 },
        },
        { name: `${name}: samples a second`, unit: "", ours: "samples", peer: against },
        { name: `${name}: peak memory`, unit: "MiB", ours: "memory", peer: `${against}, memory` },
      ],
      async measure(context, repeat) {
        const ours = await first(name, context, repeat);
        const other = await (sameBytesAs ? first(sameBytesAs, context, repeat) : trainOn(setting, `${name}-again`, kind.set, context));
        const peer: Looped = await (against === PLAIN_LOOP ? loopOn(setting, ours.directory, context) : first(against, context, repeat));
        return {
          "other bytes": ours.sha256 === other.sha256 ? 0 : 1,
          samples: ours.samplesPerSecond,
          memory: ours.peakMiB,
          [against]: peer.samplesPerSecond,
          [`${against}, memory`]: peer.peakMiB,
        };
      },
    };
  });
}
