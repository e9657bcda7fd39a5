import { readFileSync } from "node:fs";
import path from "node:path";
import { allClients, federate, listRanks, processLauncher, randomSelection, segmentWise } from "prelort";

import { countBytes, type Link } from "./link.ts";

/**
 * A run with workers that only echo, in a process of its own, so that its CPU time and peak memory are the controller's.
 *
 *   node echo-controller.js '{"clients": 10, "selected": 10, …}'
 */
export interface EchoAsked {
  readonly clients: number;
  /** Clients per round. */
  readonly selected: number;
  /** Ranks of the clients, by index modulo their number. */
  readonly ranks: readonly number[];
  /** Floats per row: in + out of the only module. */
  readonly width: number;
  readonly rounds: number;
  readonly workers: number;
  /** The socket that tensors go through, as for another machine. Without it they are in shared memory. */
  readonly through?: "ipc" | "tcp";
  /** Workers share memory with one another, as on another machine. Default: whether there is a `link`. */
  readonly isElsewhere?: boolean;
  /** Workers run in this network namespace and reach the controller at this address. */
  readonly link?: Pick<Link, "namespace" | "address" | "device">;
  /** Clients per partial sum; without it, every update is sent. */
  readonly partialSums?: { readonly every: number; readonly encoding: "f64" | "packed" };
  readonly folder: string;
  readonly python: string;
}

/** Its output. */
export interface EchoTold {
  /**
   * From the end of a round to the end of the next, including journal and checkpoint; without the first round, and without those
   * that ended before every worker was ready: until then its start takes a core.
   */
  readonly roundMs: readonly number[];
  /** Of this process, in the same rounds. */
  readonly cpuMs: readonly number[];
  /** Of all workers, in the same rounds. */
  readonly workerCpuMs: readonly number[];
  readonly peakMiB: number;
  /** Through the link to the workers, in the same rounds. */
  readonly linkDown: readonly number[];
  readonly bytesDown: number;
  readonly bytesUp: number;
}

const asked = JSON.parse(process.argv[2] ?? "") as EchoAsked;
const r = Math.max(...asked.ranks);
const ranks = Array.from({ length: asked.clients }, (_, client) => asked.ranks[client % asked.ranks.length] as number);
const local = processLauncher({
  command: asked.python,
  ...(asked.link && { through: ["ip", "netns", "exec", asked.link.namespace] }),
  args: [path.join(import.meta.dirname, "..", "..", "test", "bench", "echo_worker.py")],
});
const run = federate({
  name: "echo",
  runsDir: asked.folder,
  overwrite: true,
  seed: 1,
  rounds: asked.rounds,
  model: { nameOrPath: "echo", task: "causal-lm" },
  lora: { r, tiers: [...new Set(ranks)].toSorted((a, b) => a - b), scale: 1, target_modules: ["echo"] },
  data: { path: "echo.jsonl", prompt: "{word}", answer: "{gloss}", clients: asked.clients },
  strategy: {
    selection: asked.selected === asked.clients ? allClients() : randomSelection({ fraction: asked.selected / asked.clients }),
    rankAssignment: listRanks(ranks),
    aggregation: segmentWise(),
  },
  evaluate: { every: asked.rounds },
  partialSums: asked.partialSums ?? false,
  workers: {
    count: asked.workers,
    devices: ["cpu"],
    ...(asked.link ? { transport: "tcp", host: asked.link.address } : { transport: asked.through ?? "ipc" }),
  },
  launcher: asked.through && !asked.link ? { launch: (options) => ({ ...local.launch(options), pid: undefined }) } : local,
});

const ends: { readonly at: number; readonly cpu: number; readonly workerCpu: number; readonly linkDown: number }[] = [];
const pids: number[] = [];
for await (const event of run) {
  if (event.type === "worker-ready") pids.push(event.pid);
  if (event.type !== "round-end" || event.metrics.round === 0 || pids.length < asked.workers) continue;
  const { user, system } = process.cpuUsage();
  ends.push({
    at: performance.now(),
    cpu: (user + system) / 1000,
    workerCpu: pids.reduce((sum, pid) => sum + cpuMsOf(pid), 0),
    linkDown: asked.link ? countBytes(asked.link.device, "tx") : 0,
  });
  if (event.metrics.failed.length > 0 || event.metrics.reported.length !== asked.selected) {
    throw new Error(`round ${event.metrics.round}: ${event.metrics.reported.length} of ${asked.selected} clients reported`);
  }
}
const { metrics } = await run.result;
// The last round is also evaluated and saved.
const between = (value: (end: (typeof ends)[number]) => number) =>
  ends.slice(1, -1).map((end, index) => value(end) - value(ends[index] as (typeof ends)[number]));
const told: EchoTold = {
  roundMs: between(({ at }) => at),
  cpuMs: between(({ cpu }) => cpu),
  workerCpuMs: between(({ workerCpu }) => workerCpu),
  linkDown: between(({ linkDown }) => linkDown),
  peakMiB: process.resourceUsage().maxRSS / 1024,
  bytesDown: metrics.reduce((sum, { bytesDown }) => sum + bytesDown, 0),
  bytesUp: metrics.reduce((sum, { bytesUp }) => sum + bytesUp, 0),
};
process.stdout.write(`${JSON.stringify(told)}\n`);

/** User and system time of another process; 0 where there is no /proc. */
function cpuMsOf(pid: number): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
    // In ticks of a hundredth of a second.
    return 10 * (Number(fields[11]) + Number(fields[12]));
  } catch {
    return 0;
  }
}
