import { closeSync } from "node:fs";
import { createInterface } from "node:readline";
import { execa } from "execa";
import { z } from "zod";
import { createDeferred, type Deferred } from "../base/deferred.ts";
import { parseJson } from "../base/json.ts";
import { programArguments } from "../installation.ts";
import type { LaunchOptions, WorkerExit, WorkerLauncher, WorkerProcess } from "./launch.ts";
import { endGroup, workerEnvironment } from "./process-launcher.ts";
import { openLog } from "./worker-log.ts";

/** Processes whose lanes are workers of many runs: see `createLanes`. */
export interface Lanes extends AsyncDisposable {
  /** For all of the runs. */
  readonly launcher: WorkerLauncher;
  /** Ends the processes. Safe to call twice. */
  close(): Promise<void>;
}

export interface LanesOptions {
  /** The Python interpreter. */
  readonly command: string;
  /** Over how many processes the lanes are spread; each computes with the threads of the first worker that it is asked for. */
  readonly processes: number;
}

/** How long a lane may take to end, which it does between two batches, and a process after its lanes. */
const PATIENCE_MS = 10_000;

/**
 * Workers on this machine that are lanes of a few Python processes. To its run each lane is a worker like any other. Lanes of one
 * process share the base model, and clients that they train at the same time are one batch: faster for small models, and the same
 * figures up to rounding, not to the byte. Give the launcher to several runs at once, each with
 * as many workers as lanes it should have. Without dropout; on the CPU or one GPU a process.
 */
export function createLanes({ command, processes }: LanesOptions): Lanes {
  const open = new Set<LaneProcess>();
  let isClosed = false;
  const close = async () => {
    isClosed = true;
    await Promise.all([...open].map((each) => each.close()));
  };
  const launch = (options: LaunchOptions) => {
    if (isClosed) throw new Error("the lanes have been closed");
    if (open.size === processes) return [...open].reduce((a, b) => (b.lanes < a.lanes ? b : a)).add(options);
    const started: LaneProcess = new LaneProcess(command, options, () => open.delete(started));
    open.add(started);
    return started.add(options);
  };
  return { launcher: { launch }, close, [Symbol.asyncDispose]: close };
}

const ended = z.object({ ended: z.number(), problem: z.string().nullable() });

class LaneProcess {
  readonly #subprocess;
  readonly #lanes = new Map<number, Deferred<WorkerExit>>();
  readonly #exited = createDeferred<void>();
  #next = 0;

  constructor(command: string, { device, threads, logPath }: LaunchOptions, onExit: () => void) {
    const options = ["--parent-pid", `${process.pid}`, "--device", device, "--threads", `${threads}`];
    const log = openLog(logPath);
    try {
      this.#subprocess = execa(command, [...programArguments("lanes.__main__"), ...options], {
        env: workerEnvironment(threads),
        stdin: "pipe",
        stdout: "pipe",
        // execa takes any descriptor, its types only those up to 9.
        stderr: log as 9,
        buffer: false,
        detached: true,
        reject: false,
      });
    } finally {
      closeSync(log);
    }
    this.#subprocess.stdin.on("error", () => {});
    createInterface({ input: this.#subprocess.stdout }).on("line", (line) => this.#hear(line));
    void this.#watch(onExit);
  }

  get lanes(): number {
    return this.#lanes.size;
  }

  add({ endpoint, workerId, logPath }: LaunchOptions): WorkerProcess {
    const lane = this.#next++;
    const exit = createDeferred<WorkerExit>();
    this.#lanes.set(lane, exit);
    this.#tell({ lane, endpoint, worker_id: workerId, log: logPath });
    return {
      pid: this.#subprocess.pid,
      exited: exit.promise,
      kill: () => {
        if (!this.#lanes.has(lane)) return;
        this.#tell({ end: lane });
        // A lane that hangs holds up all others of its process.
        setTimeout(() => this.#lanes.has(lane) && this.#kill(), PATIENCE_MS).unref();
      },
    };
  }

  async close(): Promise<void> {
    this.#subprocess.stdin.end();
    const late = setTimeout(() => this.#kill(), PATIENCE_MS);
    await this.#exited.promise;
    clearTimeout(late);
  }

  async #watch(onExit: () => void): Promise<void> {
    const { originalMessage, exitCode, signal } = await this.#subprocess;
    onExit();
    const exit = this.#subprocess.pid === undefined ? { problem: originalMessage } : { exitCode, signal };
    for (const lane of this.#lanes.values()) lane.resolve(exit);
    this.#lanes.clear();
    this.#exited.resolve();
  }

  #tell(asked: object): void {
    this.#subprocess.stdin.write(`${JSON.stringify(asked)}\n`);
  }

  #hear(line: string): void {
    const said = ended.safeParse(parseJson(line));
    if (!said.success) return;
    const { ended: lane, problem } = said.data;
    this.#lanes.get(lane)?.resolve(problem === null ? { exitCode: 0 } : { exitCode: 1, problem });
    this.#lanes.delete(lane);
  }

  #kill(): void {
    if (this.#subprocess.pid !== undefined) endGroup(this.#subprocess.pid, "SIGKILL");
  }
}
