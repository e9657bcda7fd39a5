import { execFileSync, spawn } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { existsSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";
import { environmentPython } from "../../dist/installation.js";
import type { ChaosAsked, ChaosTold } from "./controller.ts";
import type { Hosts } from "./hosts.ts";

/** The folders and the size of one run. */
export interface Place {
  /** Holds everything that this run writes, including temporary files. */
  readonly root: string;
  /** Where its run directory goes. */
  readonly runs: string;
  readonly rounds: number;
  readonly clients: number;
  readonly workers: number;
  /** Whether workers add up updates in its nth life, from 0. */
  addsUp(life: number): boolean;
  /** The faults that its workers inject themselves. */
  readonly faults: { readonly seed: number; readonly rate: number };
  /** Where its workers run; undefined: on this machine, with shared memory. */
  readonly hosts?: Hosts | undefined;
}

/** How long a worker on another host and its controller may be without each other. */
export const LEASE_SECONDS = 3;

export interface WorkerProcess {
  readonly pid: number;
  readonly id: string;
}

/** A controller process, from its start to its end. */
export interface Life {
  /** Resolves with its exit code, or the signal that ended it, and the end of its standard error. */
  readonly ended: Promise<{ readonly how: number | NodeJS.Signals; readonly said: string }>;
  hasEnded(): boolean;
  /** When training began and ended, in milliseconds since 1970; undefined if the process ended before. */
  readonly began: Promise<number | undefined>;
  readonly trained: Promise<number | undefined>;
  kill(): void;
  workers(): readonly WorkerProcess[];
  /** When the controller reported that a worker failed, in milliseconds since 1970; undefined if it ended before. */
  sawFailure(workerId: string): Promise<number | undefined>;
  hasFailed(workerId: string): boolean;
}

export const runDirectory = (place: Place) => path.join(place.runs, "chaos");
export const faultLog = (place: Place) => path.join(place.root, "faults.jsonl");
/** A line for each worker that read what another one of its host keeps. */
export const sharingLog = (place: Place) => path.join(place.root, "sharing.jsonl");
export const temporary = (place: Place) => path.join(place.root, "tmp");

const lives = new WeakMap<Place, number>();

/** Starts a run, or resumes it if it has begun. */
export function begin(place: Place): Life {
  const number = lives.get(place) ?? 0;
  lives.set(place, number + 1);
  const { runs: folder, rounds, clients, workers, faults, hosts } = place;
  const isResumed = existsSync(path.join(runDirectory(place), "run.json"));
  const asked: ChaosAsked = {
    folder,
    rounds,
    clients,
    workers,
    python: environmentPython(),
    isResumed,
    partialSums: place.addsUp(number) && { every: 2 },
    hosts: hosts && { address: hosts.address, namespaces: hosts.namespaces, lease: LEASE_SECONDS },
  };
  const child = spawn(process.execPath, [path.join(import.meta.dirname, "controller.js"), JSON.stringify(asked)], {
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      ...process.env,
      TMPDIR: temporary(place),
      PRELORT_CHAOS: JSON.stringify({ clients, ...faults, log: faultLog(place), sharing: sharingLog(place) }),
    },
  });
  const pid = child.pid as number;
  const told: ChaosTold[] = [];
  const news = new EventEmitter();
  let said = "";
  let isOver = false;
  child.stderr.on("data", (chunk: Buffer) => (said = `${said}${chunk.toString()}`.slice(-4000)));
  createInterface({ input: child.stdout }).on("line", (line) => {
    told.push(JSON.parse(line) as ChaosTold);
    news.emit("line");
  });
  const ended = once(child, "close").then(([code, signal]) => {
    isOver = true;
    return { how: (code ?? signal) as number | NodeJS.Signals, said };
  });
  const timeOf = async (what: ChaosTold["what"], workerId?: string): Promise<number | undefined> => {
    for (;;) {
      const found = told.find((line) => line.what === what && line.workerId === workerId);
      if (found || isOver) return found?.at;
      await Promise.race([once(news, "line"), ended]);
    }
  };
  return {
    ended,
    hasEnded: () => isOver,
    began: timeOf("run-start"),
    trained: timeOf("run-end"),
    kill: () => child.kill("SIGKILL"),
    workers: () =>
      processes("--worker-id").flatMap(({ pid: worker, parent, args }) => {
        const id = /--worker-id (\S+)/.exec(args)?.[1];
        return parent === pid && id !== undefined ? [{ pid: worker, id }] : [];
      }),
    hasFailed: (workerId) => told.some((line) => line.what === "failure" && line.workerId === workerId),
    sawFailure: (workerId) => timeOf("failure", workerId),
  };
}

/** Live processes with that text in their command line; zombies do not count. */
export function processes(text: string): readonly { readonly pid: number; readonly parent: number; readonly args: string }[] {
  const listing = execFileSync("ps", ["-A", "-ww", "-o", "pid=,ppid=,stat=,args="], { encoding: "utf8" });
  return listing.split("\n").flatMap((line) => {
    const [, pid, parent, state, args = ""] = /^\s*(\d+)\s+(\d+)\s+(\S+)\s+(.*)$/.exec(line) ?? [];
    const isOther = Number(pid) !== process.pid;
    return isOther && !state?.startsWith("Z") && args.includes(text) ? [{ pid: Number(pid), parent: Number(parent), args }] : [];
  });
}

/** How long after this time some workers are gone, in milliseconds. */
export async function untilGone(pids: readonly number[], at: number): Promise<number> {
  while (processes("--worker-id").some(({ pid }) => pids.includes(pid))) await setTimeout(50);
  return Date.now() - at;
}

/** The process may have ended meanwhile. */
export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {}
}
