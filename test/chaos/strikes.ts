import { closeSync, openSync, rmSync, writeSync } from "node:fs";
import path from "node:path";
import { setTimeout } from "node:timers/promises";
import type { Rng } from "../../dist/base/rng.js";
import { type Life, type Place, signal, untilGone, type WorkerProcess } from "./life.ts";

/** The observed effect of a strike. */
export interface Seen {
  /** How long it took to be detected, for strikes that measure that; undefined if the controller ended before. */
  readonly latencyMs?: Promise<number | undefined>;
}

/** A fault injected from outside. Gives undefined if there was nothing to strike. */
export interface Strike {
  readonly name: string;
  /** Relative frequency. */
  readonly weight: number;
  strike(life: Life, rng: Rng, place: Place): Promise<Seen | undefined>;
}

/** Already struck and not yet detected: another strike would distort the latency. */
const doomed = new Set<number>();

const oneOf = <T>(items: readonly T[], rng: Rng): T | undefined => items[Math.floor(rng.next() * items.length)];

function onWorker(name: string, weight: number, strike: (worker: WorkerProcess, life: Life, rng: Rng) => Promise<Seen>): Strike {
  return {
    name,
    weight,
    async strike(life, rng) {
      const worker = oneOf(
        life.workers().filter(({ pid }) => !doomed.has(pid)),
        rng,
      );
      return worker && strike(worker, life, rng);
    },
  };
}

function timed(worker: WorkerProcess, name: NodeJS.Signals, life: Life): Seen {
  const at = Date.now();
  signal(worker.pid, name);
  doomed.add(worker.pid);
  return { latencyMs: life.sawFailure(worker.id).then((seen) => (seen === undefined ? undefined : seen - at)) };
}

export const killWorker = onWorker("SIGKILL of a worker", 4, async (worker, life) => timed(worker, "SIGKILL", life));

export const stopWorker = onWorker("SIGSTOP of a worker", 1, async (worker, life) => timed(worker, "SIGSTOP", life));

export const pauseWorker = onWorker("SIGSTOP, then SIGCONT, of a worker", 4, async (worker, _, rng) => {
  signal(worker.pid, "SIGSTOP");
  await setTimeout(50 + 700 * rng.next());
  signal(worker.pid, "SIGCONT");
  return {};
});

/** The latency is until its workers are gone. */
export const killController: Strike = {
  name: "SIGKILL of the controller",
  weight: 3,
  async strike(life) {
    const pids = life.workers().map(({ pid }) => pid);
    const at = Date.now();
    life.kill();
    await life.ended;
    return { latencyMs: untilGone(pids, at) };
  },
};

/** Fills the run's disk until the controller has ended because of it, or for some seconds. */
export const fillDisk: Strike = {
  name: "full disk",
  weight: 1,
  async strike(life, _, { runs }) {
    const file = path.join(runs, "filler");
    const filler = openSync(file, "w");
    try {
      for (const size of [2 ** 20, 4096]) fill(filler, Buffer.alloc(size));
      await Promise.race([life.ended, setTimeout(6000)]);
    } finally {
      closeSync(filler);
      rmSync(file);
    }
    return {};
  },
};

function fill(file: number, block: Buffer): void {
  try {
    while (writeSync(file, block) === block.length);
  } catch {}
}
