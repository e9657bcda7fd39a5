import { median } from "../figures.ts";
import type { Experiment } from "../experiment.ts";
import { canOpenLink, countBytes, openLink } from "../link.ts";
import { runEcho } from "../processes.ts";

const MIB = 1024 * 1024;
const CLIENTS = 100;
const PAYLOAD = 16 * MIB;
const ASKED = { clients: CLIENTS, selected: CLIENTS, ranks: [16], width: PAYLOAD / 4 / 16, rounds: 5, workers: 2 } as const;
const ONCE = { every: CLIENTS, encoding: "packed" } as const;

/** Sums instead of updates, between processes that share memory. */
export const partialSums: Experiment = {
  name: "partial-sums",
  atMostRepeats: 2,
  rows: [
    { name: "round of 100 echoing clients, 16 MiB, partial sums", unit: "ms", ours: "sums", peer: "updates", target: { atMost: 0.6 } },
    { name: "the same: controller's CPU", unit: "ms", ours: "sums, CPU", peer: "updates, CPU", target: { atMost: 0.15 } },
    { name: "the same: CPU of the workers", unit: "ms", ours: "sums, workers", peer: "updates, workers" },
  ],
  async measure(context) {
    const updates = await runEcho(ASKED, context);
    const sums = await runEcho({ ...ASKED, partialSums: ONCE }, context);
    return {
      updates: median(updates.roundMs),
      sums: median(sums.roundMs),
      "updates, CPU": median(updates.cpuMs),
      "sums, CPU": median(sums.cpuMs),
      "updates, workers": median(updates.workerCpuMs),
      "sums, workers": median(sums.workerCpuMs),
    };
  },
};

const KINDS = {
  updates: undefined,
  "one sum": ONCE,
  "every 8, f64": { every: 8, encoding: "f64" },
  "every 8, packed": { every: 8, encoding: "packed" },
} as const;

const HOST = { clients: 8, selected: 8, ranks: [16], width: PAYLOAD / 16, rounds: 6, workers: 4 } as const;

/** An adapter on its way to a machine with four workers, half of whose clients have half of the rank. */
export const oncePerHost: Experiment = {
  name: "once-per-host",
  atMostRepeats: 2,
  needs: { what: "root on Linux, for network namespaces", isThere: canOpenLink },
  rows: [
    {
      name: "downlink of a round of 8 clients on 4 workers of one machine",
      unit: "bytes",
      ours: "down",
      peer: "the adapter",
      target: { atMost: 1.01 },
    },
  ],
  async measure(context) {
    const link = openLink("1gbit");
    try {
      const { linkDown } = await runEcho({ ...HOST, ranks: [8, 16], link }, context);
      return { down: median(linkDown), "the adapter": 4 * 16 * HOST.width };
    } finally {
      link.close();
    }
  },
};

/** Sums instead of updates, from the other side of a link of 1 Gbit/s. */
export const partialSumsOverLink: Experiment = {
  name: "partial-sums-link",
  atMostRepeats: 1,
  needs: { what: "root on Linux, for network namespaces", isThere: canOpenLink },
  rows: [
    {
      name: "round of 100 clients, 16 MiB, 1 Gbit/s, one sum per worker",
      unit: "ms",
      ours: "one sum",
      peer: "updates",
      target: { atMost: 0.35 },
    },
    { name: "the same: uplink", unit: "MiB", ours: "one sum, up", peer: "updates, up", target: { atMost: 0.05 } },
    { name: "a sum every 8 clients, f64: uplink", unit: "MiB", ours: "every 8, f64, up", peer: "updates, up", target: { atMost: 0.3 } },
    {
      name: "a sum every 8 clients, packed: uplink",
      unit: "MiB",
      ours: "every 8, packed, up",
      peer: "updates, up",
      target: { atMost: 0.19 },
    },
    { name: "a sum every 8 clients, packed: controller's CPU", unit: "ms", ours: "every 8, packed, CPU", peer: "updates, CPU" },
    { name: "a sum every 8 clients, packed: CPU of the workers", unit: "ms", ours: "every 8, packed, workers", peer: "updates, workers" },
  ],
  async measure(context) {
    const sample: Record<string, number> = {};
    const link = openLink("1gbit");
    try {
      for (const [name, sums] of Object.entries(KINDS)) {
        const before = countBytes(link.device, "rx");
        const told = await runEcho({ ...ASKED, rounds: 3, link, ...(sums && { partialSums: sums }) }, context);
        sample[name] = median(told.roundMs);
        sample[`${name}, up`] = (countBytes(link.device, "rx") - before) / 3 / MIB;
        sample[`${name}, CPU`] = median(told.cpuMs);
        sample[`${name}, workers`] = median(told.workerCpuMs);
      }
    } finally {
      link.close();
    }
    return sample;
  },
};
