import { readFileSync } from "node:fs";
import path from "node:path";
import type { Experiment } from "../experiment.ts";
import { runEcho } from "../processes.ts";

const WIDTH = 131_072;
const FLOAT = 4;

/** Bytes sent for a client of rank r, counted at the socket of a worker without shared memory. */
export const bytes: Experiment = {
  name: "bytes",
  atMostRepeats: 1,
  rows: [
    { name: "payload of a rank-4 client, up", unit: "bytes", ours: "rank 4", peer: "r/R of rank 16", target: { atMost: 1.001 } },
    { name: "framing of a 2 MiB payload, down", unit: "of it", ours: "framing down", peer: { limit: 0.01 }, target: { atMost: 1 } },
    { name: "framing of a 2 MiB payload, up", unit: "of it", ours: "framing up", peer: { limit: 0.01 }, target: { atMost: 1 } },
  ],
  async measure(context) {
    const frames = path.join(context.folder, "frames.json");
    const fit = async (r: number) => {
      const told = await runEcho(
        { clients: 1, selected: 1, ranks: [r], width: WIDTH, rounds: 4, workers: 1, through: "ipc" },
        context,
        frames,
      );
      const counted = JSON.parse(readFileSync(frames, "utf8")) as { readonly down: number; readonly up: number };
      return { ...told, counted };
    };
    const [four, sixteen] = [await fit(4), await fit(16)];
    const payload = 4 * 4 * WIDTH * FLOAT;
    const framing = (counted: number) => {
      if (counted < payload) throw new Error(`4 rounds of rank 4 are ${payload} bytes, and ${counted} went through the socket`);
      return counted / payload - 1;
    };
    return {
      "rank 4": four.counted.up,
      "r/R of rank 16": (sixteen.counted.up * 4) / 16,
      "framing down": framing(four.counted.down),
      "framing up": framing(four.counted.up),
    };
  },
};
