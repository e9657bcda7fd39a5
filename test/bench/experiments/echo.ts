import { median } from "../figures.ts";
import type { Experiment } from "../experiment.ts";
import { runEcho, runFlower, runPair, runPeer } from "../processes.ts";
import { MODEL } from "./training.ts";

const CLIENTS = 10;
const MIB = 1024 * 1024;
/** Of a client, each way. */
const PAYLOAD = 64 * MIB;
const LARGE = { clients: CLIENTS, selected: CLIENTS, ranks: [16], width: PAYLOAD / 4 / 16, rounds: 6, workers: 2 } as const;

/** Cost of a round besides training: selection, the wire in both directions, the sum, journal and checkpoint. */
export const echoSmall: Experiment = {
  name: "echo-1KB",
  rows: [
    { name: "round of 10 echoing clients, 1 KB, p50", unit: "ms", ours: "prelort", peer: { limit: 10 }, target: { atMost: 1 } },
    { name: "round of 10 echoing clients, 1 KB", unit: "ms", ours: "prelort", peer: "Flower", target: { atMost: 1 / 20 } },
  ],
  async measure(context) {
    const ours = await runEcho({ clients: CLIENTS, selected: CLIENTS, ranks: [4], width: 64, rounds: 300, workers: 2 }, context);
    const flower = await runFlower({ clients: CLIENTS, sampled: CLIENTS, floats: 256, rounds: 20 }, context);
    return { prelort: median(ours.roundMs), Flower: median(flower.round_ms) };
  },
};

export const echoLarge: Experiment = {
  name: "echo-64MiB",
  rows: [
    { name: "round of 10 echoing clients, 64 MiB", unit: "ms", ours: "prelort", peer: "Flower", target: { atMost: 1 / 5 } },
    { name: "the same through a socket (ipc)", unit: "ms", ours: "prelort, ipc", peer: "Flower", target: { atMost: 0.6 } },
    {
      name: "the same through tcp, with CURVE, as from another machine",
      unit: "ms",
      ours: "prelort, tcp",
      peer: "Flower",
      target: { atMost: 0.6 },
    },
    { name: "the same, the adapter sent for each client", unit: "ms", ours: "prelort, tcp, each", peer: "Flower" },
  ],
  async measure(context) {
    const shared = await runEcho(LARGE, context);
    const ipc = await runEcho({ ...LARGE, through: "ipc" }, context);
    const tcp = await runEcho({ ...LARGE, through: "tcp", isElsewhere: true }, context);
    const each = await runEcho({ ...LARGE, through: "tcp" }, context);
    const flower = await runFlower({ clients: CLIENTS, sampled: CLIENTS, floats: PAYLOAD / 4, rounds: 3 }, context);
    return {
      prelort: median(shared.roundMs),
      "prelort, ipc": median(ipc.roundMs),
      "prelort, tcp": median(tcp.roundMs),
      "prelort, tcp, each": median(each.roundMs),
      Flower: median(flower.round_ms),
    };
  },
};

/** What a whole round moves through a socket, against what two bare sockets move. */
export const wire: Experiment = {
  name: "wire",
  rows: (["ipc", "tcp"] as const).flatMap((through) => {
    const name = `bytes of that round through ${through === "tcp" ? "tcp, with CURVE" : through}`;
    const row = { unit: "GB/s", ours: through };
    return [
      { ...row, name, peer: `ZeroMQ, ${through}`, target: { atLeast: 0.6 } },
      { ...row, name: `${name}, against frames of 1 MiB`, peer: `ZeroMQ in frames, ${through}` },
    ];
  }),
  async measure(context) {
    const sample: Record<string, number> = {};
    const gigabytes = (2 * CLIENTS * PAYLOAD) / 1e9;
    for (const through of ["ipc", "tcp"] as const) {
      const pair = (frameBytes: number) => runPair({ through, frameBytes, count: (CLIENTS * PAYLOAD) / frameBytes, passes: 4 }, context);
      sample[`ZeroMQ, ${through}`] = gigabytes / (median(await pair(PAYLOAD)) / 1000);
      sample[through] = gigabytes / (median((await runEcho({ ...LARGE, through }, context)).roundMs) / 1000);
      sample[`ZeroMQ in frames, ${through}`] = gigabytes / (median(await pair(MIB)) / 1000);
    }
    return sample;
  },
};

/** Cost of many clients that are not selected. */
export const manyClients: Experiment = {
  name: "many-clients",
  rows: [
    {
      name: "10,000 clients, 100 a round: controller's CPU a round",
      unit: "ms",
      ours: "prelort, 10,000",
      peer: "prelort, 100 of 100",
      target: { atMost: 2 },
    },
    { name: "the same against Flower", unit: "ms", ours: "prelort, 10,000", peer: "Flower, 10,000" },
  ],
  async measure(context) {
    const small = { selected: 100, ranks: [4], width: 64, rounds: 12, workers: 2 };
    const few = await runEcho({ ...small, clients: 100 }, context);
    const many = await runEcho({ ...small, clients: 10_000 }, context);
    const flower = await runFlower({ clients: 10_000, sampled: 100, floats: 256, rounds: 4 }, context);
    return {
      "prelort, 100 of 100": median(few.cpuMs),
      "prelort, 10,000": median(many.cpuMs),
      "Flower, 10,000": median(flower.cpu_ms),
    };
  },
};

/** The same where as many train, of a hundred times as many that are registered. */
export const millionClients: Experiment = {
  name: "million-clients",
  atMostRepeats: 2,
  rows: [
    {
      name: "1,000,000 clients, 1,000 a round: controller's CPU a round",
      unit: "ms",
      ours: "prelort, 1,000,000",
      peer: "prelort, 10,000",
      target: { atMost: 2 },
    },
    { name: "the same: controller's peak memory", unit: "MiB", ours: "peak memory", peer: { limit: 1024 }, target: { atMost: 1 } },
  ],
  async measure(context) {
    const asked = { selected: 1000, ranks: [4], width: 64, rounds: 8, workers: 2 };
    const fewer = await runEcho({ ...asked, clients: 10_000 }, context);
    const many = await runEcho({ ...asked, clients: 1_000_000 }, context);
    return { "prelort, 10,000": median(fewer.cpuMs), "prelort, 1,000,000": median(many.cpuMs), "peak memory": many.peakMiB };
  },
};

/** What a worker does before that: a million clients of two short texts each. */
export const prepareMillion: Experiment = {
  name: "prepare",
  atMostRepeats: 1,
  rows: [
    { name: "prepare 1,000,000 clients of 2 texts each", unit: "s", ours: "seconds", peer: { limit: 600 }, target: { atMost: 1 } },
    { name: "the same: the worker's peak memory", unit: "MiB", ours: "peak memory", peer: { limit: 8192 }, target: { atMost: 1 } },
  ],
  async measure(context) {
    const asked = { clients: 1_000_000, examples: 2, model: MODEL, partition: "iid" };
    const told = await runPeer<{ seconds: number; peak_mib: number }>(context.python, "prepare.py", asked, context);
    return { seconds: told.seconds, "peak memory": told.peak_mib };
  },
};

/** Peak memory of the controller, however many clients report. */
export const memory: Experiment = {
  name: "memory",
  atMostRepeats: 2,
  rows: [
    {
      name: "controller's peak memory, 64 MiB, 128 clients a round",
      unit: "MiB",
      ours: "128 × 64 MiB",
      peer: "8 × 64 MiB",
      target: { atMost: 1.1 },
    },
    {
      name: "the same against 6 × payload + 100 MB",
      unit: "MiB",
      ours: "128 × 64 MiB",
      peer: { limit: 6 * 64 + 100e6 / MIB },
      target: { atMost: 1 },
    },
    {
      name: "controller's peak memory, 4 MiB, 1,024 clients a round",
      unit: "MiB",
      ours: "1,024 × 4 MiB",
      peer: { limit: 6 * 4 + 100e6 / MIB },
      target: { atMost: 1 },
    },
  ],
  async measure(context) {
    const peak = async (clients: number, mebibytes: number) => {
      const width = (mebibytes * MIB) / 4 / 16;
      return (await runEcho({ clients, selected: clients, ranks: [16], width, rounds: 2, workers: 2 }, context)).peakMiB;
    };
    return { "8 × 64 MiB": await peak(8, 64), "128 × 64 MiB": await peak(128, 64), "1,024 × 4 MiB": await peak(1024, 4) };
  },
};
