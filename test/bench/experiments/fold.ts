import type { FoldAsked } from "../fold-controller.ts";
import type { Experiment } from "../experiment.ts";
import { runOurs, runPeer } from "../processes.ts";

/** 64 MiB at the full rank; smaller clients send a prefix. */
const ASKED: FoldAsked = { r: 64, width: 262_144, ranks: [64, 64, 32, 32, 16, 16, 8, 8], passes: 5 };

/** Throughput of folding updates into a round's sum on one thread. Checks that ours does not depend on the order. */
export const fold: Experiment = {
  name: "fold",
  rows: [
    { name: "fold 64 MiB updates of mixed ranks in", unit: "GB/s", ours: "prelort", peer: "Flower", target: { atLeast: 2 } },
    { name: "the same against torch add_", unit: "GB/s", ours: "prelort", peer: "torch add_", target: { atLeast: 0.5 } },
  ],
  async measure(context) {
    const ours = await runOurs<{ gbPerS: number }>("fold-controller.js", ASKED, context);
    const flower = await runPeer<{ gb_per_s: number }>(context.flower, "aggregate.py", { how: "flower", ...ASKED }, context);
    const torch = await runPeer<{ gb_per_s: number }>(context.python, "aggregate.py", { how: "torch", ...ASKED }, context);
    return { prelort: ours.gbPerS, Flower: flower.gb_per_s, "torch add_": torch.gb_per_s };
  },
};
