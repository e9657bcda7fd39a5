import { createDeferred, type Deferred } from "../base/deferred.ts";
import { SESSION } from "../protocol/limits.ts";
import type { WorkerMessage, WorkerMessageOf } from "../protocol/messages.ts";
import type { LaunchOptions, OpenChannel, OpenLauncher, WorkerExit, WorkerProcess } from "../workers/launch.ts";
import { appendLog } from "../workers/worker-log.ts";
import type { JobsApi } from "./jobs-api.ts";
import { type JobEnd, type JobPlan, type JobTimes, RayJob } from "./ray-job.ts";

export interface OpenRayOptions {
  readonly api: JobsApi;
  readonly openChannel: OpenChannel;
  /** Of each worker, where Ray has hidden those of others. */
  readonly device: string;
  readonly times: JobTimes;
  plan(first: LaunchOptions): JobPlan;
}

/** A worker whose process is not known to be gone. */
interface Launched {
  readonly options: LaunchOptions;
  readonly job: RayJob;
  readonly publicKey: Deferred<string>;
  readonly exited: Deferred<WorkerExit>;
  place: { readonly host: string; readonly node: string } | undefined;
  killTimer: NodeJS.Timeout | undefined;
}

/** How long a node that was lost is avoided. */
const AVOID_MS = 120_000;
/** How long Ray has to end a worker that is killed. */
const KILL_MS = 10_000;
/** All that is left of a job has this long. */
const CLOSE_MS = 5000;

/** The workers of one pool on a Ray cluster. One job starts them all; if it is lost, another one starts those after them. */
export class OpenRay implements OpenLauncher {
  readonly isRemote = true;
  readonly #options: OpenRayOptions;
  readonly #workers = new Map<string, Launched>();
  readonly #jobs = new Set<RayJob>();
  /** Nodes, and until when they are avoided. */
  readonly #lostNodes = new Map<string, number>();
  /** What the launches of a job wait for: told only when it changes. */
  readonly #reasons = new WeakMap<RayJob, string>();
  #job: RayJob | undefined;
  #hasWorked = false;

  constructor(options: OpenRayOptions) {
    this.#options = options;
  }

  launch(options: LaunchOptions): WorkerProcess {
    const { workerId, threads } = options;
    appendLog(options.logPath, "");
    this.#job ??= this.#startJob(options);
    const worker: Launched = {
      options,
      job: this.#job,
      publicKey: createDeferred(),
      exited: createDeferred(),
      place: undefined,
      killTimer: undefined,
    };
    this.#workers.set(workerId, worker);
    const avoid = this.#avoidedNodes();
    const reason = this.#reasons.get(this.#job);
    if (reason) options.onWaiting?.(reason);
    this.#job.send({ ...SESSION, type: "launch", worker_id: workerId, device: this.#options.device, threads, avoid });
    return {
      publicKey: worker.publicKey.promise,
      exited: worker.exited.promise,
      kill: (isLost = false) => this.#kill(worker, isLost),
    };
  }

  async close(): Promise<void> {
    this.#job = undefined;
    await Promise.all([...this.#jobs].map((job) => job.close(CLOSE_MS)));
    // The pool has waited for them; a program that has not must not wait for ever.
    for (const worker of this.#workers.values()) this.#exit(worker, { signal: "SIGKILL" });
  }

  #startJob(first: LaunchOptions): RayJob {
    const { api, openChannel, times, plan } = this.#options;
    const job: RayJob = new RayJob(api, openChannel, {
      plan: plan(first),
      times,
      isReplacement: this.#hasWorked,
      listener: {
        message: (message) => this.#receive(job, message),
        waiting: (reason) => this.#tellWaiting(job, reason),
        ended: (end) => this.#lose(job, end),
      },
    });
    this.#jobs.add(job);
    return job;
  }

  #receive(job: RayJob, message: WorkerMessage): void {
    this.#hasWorked = true;
    if (message.type === "waiting") return this.#tellWaiting(job, message.reason);
    if (message.type !== "placed" && message.type !== "exited") return;
    // It may have been given up meanwhile.
    const worker = this.#workers.get(message.worker_id);
    if (worker?.job !== job) return;
    if (message.type === "placed") this.#place(worker, message);
    else this.#end(worker, message);
  }

  #place(worker: Launched, { host, node, public_key: publicKey }: WorkerMessageOf<"placed">): void {
    worker.place = { host, node };
    log(worker, `prelort: ${worker.options.workerId} runs on ${host} (Ray node ${node})\n`);
    worker.options.onWaiting?.("");
    worker.publicKey.resolve(publicKey);
  }

  #end(worker: Launched, { exit_code, signal, problem, log: text }: WorkerMessageOf<"exited">): void {
    log(worker, text);
    this.#exit(worker, { exitCode: exit_code ?? undefined, signal: signal ?? undefined, problem: problem ?? undefined });
  }

  #exit(worker: Launched, exit: WorkerExit): void {
    clearTimeout(worker.killTimer);
    this.#workers.delete(worker.options.workerId);
    worker.exited.resolve({ ...exit, host: worker.place?.host });
  }

  #kill(worker: Launched, isLost: boolean): void {
    const { workerId } = worker.options;
    if (this.#workers.get(workerId) !== worker) return;
    const isUnsent = worker.job.withdraw(workerId);
    if (!isUnsent) worker.job.send({ ...SESSION, type: "kill", worker_id: workerId });
    if (isLost && worker.place) this.#lostNodes.set(worker.place.node, performance.now() + AVOID_MS);
    if (isLost || isUnsent) this.#exit(worker, { signal: "SIGKILL" });
    else worker.killTimer ??= setTimeout(() => this.#exit(worker, { signal: "SIGKILL" }), KILL_MS);
  }

  #tellWaiting(job: RayJob, reason: string): void {
    this.#reasons.set(job, reason);
    for (const worker of this.#workers.values()) if (worker.job === job && !worker.place) worker.options.onWaiting?.(reason);
  }

  #lose(job: RayJob, { problem, cause }: JobEnd): void {
    if (this.#job === job) this.#job = undefined;
    for (const worker of [...this.#workers.values()].filter((each) => each.job === job)) this.#exit(worker, { problem, cause });
  }

  #avoidedNodes(): string[] {
    for (const [node, until] of this.#lostNodes) if (until < performance.now()) this.#lostNodes.delete(node);
    return [...this.#lostNodes.keys()];
  }
}

function log({ options: { logPath } }: Launched, text: string): void {
  try {
    appendLog(logPath, text);
  } catch {
    // The disk is full, or the run's folder is gone: how the worker ended is told all the same.
  }
}
