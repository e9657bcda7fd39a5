import { setMaxListeners } from "node:events";
import { rm } from "node:fs/promises";
import path from "node:path";
import { z } from "zod";
import { orAborted } from "../base/abort.ts";
import { check, formatPath } from "../config/check.ts";
import type { RunConfig, RunInput } from "../config/schema.ts";
import { common } from "../config/sections.ts";
import { ConfigError, InterruptedError } from "../errors.ts";
import type { WorkerLauncher } from "../workers/launch.ts";
import type { PoolListener, Reply, Task, TaskType, WorkerHello, WorkerPool, WorkerStatus } from "../workers/task.ts";
import { makeLogFolder } from "./log-folder.ts";
import { openPool } from "./open-pool.ts";
import { requireSameDevice } from "./same-on-every-worker.ts";

export interface CreatePoolOptions {
  /** As in the options of `federate`. */
  readonly workers?: RunInput["workers"];
  /** How workers are started; Python processes on this machine by default. */
  readonly launcher?: WorkerLauncher | undefined;
}

/** Workers for several runs, one after the other or at once: `federate({ …, pool })`. Made by `createPool`. */
export interface SharedPool extends AsyncDisposable {
  /** Their options, with defaults. */
  readonly workers: RunConfig["workers"];
  /** Ends the workers; runs that are under way are interrupted. Safe to call twice. */
  close(): Promise<void>;
}

interface BorrowOptions {
  readonly signal: AbortSignal;
  readonly listener: PoolListener;
}

/** A run's share of the workers. */
export interface Borrowed {
  readonly pool: WorkerPool;
  /** The workers remain. Safe to call twice. */
  close(): Promise<void>;
}

const lenders = new WeakMap<SharedPool, (options: BorrowOptions) => Borrowed>();

/** What one run has of the workers. Throws a ConfigError if nobody made that pool. */
export function borrowFrom(pool: SharedPool, options: BorrowOptions): Borrowed {
  const lend = lenders.get(pool);
  if (lend) return lend(options);
  throw new ConfigError([{ path: "pool", message: "must be a pool that createPool made" }]);
}

/**
 * Starts workers that several runs share, so that only the first waits until Python, the model and the data are loaded. All runs
 * that are under way at the same time must have the same `model`, `lora`, `data` and `seed`; their strategies may differ, and the
 * bytes of each are those of the run alone. Throws a ConfigError or an EnvironmentError.
 */
export async function createPool({ workers: asked = {}, launcher }: CreatePoolOptions = {}): Promise<SharedPool> {
  const { value, problems } = check(z.strictObject({ workers: common.workers }), { workers: asked }, "camelCase");
  if (problems) throw new ConfigError(problems.map(({ path: at, message }) => ({ path: formatPath(at, "camelCase"), message })));
  const { workers } = value;
  const logFolder = await makeLogFolder("pool");
  const borrowers = new Set<Borrower>();
  const crew = new Crew(borrowers);
  let first: WorkerHello | undefined;
  const forget = () => rm(logFolder, { recursive: true, force: true });
  const opened = await openPool(
    { workers, name: path.basename(logFolder) },
    {
      ...(launcher && { launcher }),
      logFolder,
      accept(worker) {
        first ??= worker;
        if (!workers.mixedDevices) requireSameDevice(first, worker);
      },
      listener: crew,
    },
  ).catch(async (error: unknown) => {
    await forget();
    throw error;
  });
  const { pool } = opened;
  const started = pool.start();
  started.catch(() => {}); // each run waits for it
  const model: LoadedModel = { key: undefined, reply: Promise.resolve(), users: new Set() };
  let [count, closing]: [number, Promise<void> | undefined] = [0, undefined];
  const close = () => (closing ??= closeAll());
  const closeAll = async () => {
    try {
      await opened.close();
    } finally {
      await forget();
    }
  };
  const shared = { workers, close, [Symbol.asyncDispose]: close };
  lenders.set(shared, (options) => {
    const borrower = new Borrower({ pool, started, model, tag: `run-${++count}:` }, options);
    borrowers.add(borrower);
    crew.introduce(borrower);
    const leave = async () => {
      borrowers.delete(borrower);
      await borrower.close();
    };
    return { pool: borrower, close: leave };
  });
  return shared;
}

/** What the workers have loaded, and who trains it. */
interface LoadedModel {
  /** The request, as JSON; undefined if that failed. */
  key: string | undefined;
  reply: Promise<unknown>;
  readonly users: Set<Borrower>;
}

/** Who is there, told to every run. */
class Crew implements PoolListener {
  readonly #runs: ReadonlySet<Borrower>;
  readonly #hellos = new Map<string, WorkerHello>();
  readonly #statuses = new Map<string, WorkerStatus>();

  constructor(runs: ReadonlySet<Borrower>) {
    this.#runs = runs;
  }

  readonly ready = (worker: WorkerHello): void => {
    this.#hellos.set(worker.workerId, worker);
    for (const { listener } of this.#runs) listener.ready?.(worker);
  };
  readonly status = (status: WorkerStatus): void => {
    const { workerId, state } = status;
    const isGone = state === "stopped" || state === "failed";
    if (isGone) this.#hellos.delete(workerId);
    if (isGone) this.#statuses.delete(workerId);
    else this.#statuses.set(workerId, status);
    for (const run of this.#runs) run.listener.status?.(run.see(status));
  };
  readonly failure: NonNullable<PoolListener["failure"]> = (failure) => {
    for (const run of this.#runs) if (run.owns(failure.taskId)) run.listener.failure?.({ ...failure, taskId: run.own(failure.taskId) });
  };
  readonly assigned: NonNullable<PoolListener["assigned"]> = (task, seconds) => {
    for (const run of this.#runs) if (run.owns(task.id)) run.listener.assigned?.(task, seconds);
  };
  readonly givenUp: NonNullable<PoolListener["givenUp"]> = (slot) => {
    for (const { listener } of this.#runs) listener.givenUp?.(slot);
  };

  /** Tells a new run who is there already. */
  introduce(run: Borrower): void {
    for (const worker of this.#hellos.values()) run.listener.ready?.(worker);
    for (const status of this.#statuses.values()) run.listener.status?.(run.see(status));
  }
}

interface Shared {
  readonly pool: WorkerPool;
  readonly started: Promise<void>;
  readonly model: LoadedModel;
  /** What the ids of the run's tasks begin with among those of all runs. */
  readonly tag: string;
}

/** One run's share: its tasks alone, under ids of their own, which end with the run and leave the workers as they are. */
class Borrower implements WorkerPool {
  readonly listener: PoolListener;
  readonly #shared: Shared;
  readonly #over = new AbortController();
  readonly #signal: AbortSignal;

  constructor(shared: Shared, { signal, listener }: BorrowOptions) {
    this.listener = listener;
    this.#shared = shared;
    const stop = () => this.#over.abort(new InterruptedError());
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    this.#signal = this.#over.signal;
    setMaxListeners(0, this.#signal);
  }

  start(): Promise<void> {
    return this.#orOver(this.#shared.started);
  }

  run<T extends TaskType>(task: Task<T>): Promise<Reply<T>> {
    return this.#shared.pool.run(this.#mine(task));
  }

  runOn<T extends TaskType>(workerId: string, task: Task<T>): Promise<Reply<T> | undefined> {
    return this.#orOver(this.#shared.pool.runOn(workerId, this.#mine(task)));
  }

  readonly grant: WorkerPool["grant"] = (...granted) => this.#shared.pool.grant(...granted);
  readonly ended: WorkerPool["ended"] = (workerId) => this.#shared.pool.ended(workerId);

  /** Runs of the same model share what the first has had loaded. */
  async onEveryWorker<T extends TaskType>(task: Task<T>): Promise<Reply<T>> {
    const { model, pool } = this.#shared;
    const key = JSON.stringify(task.request);
    if (model.key !== key) {
      if (model.users.size > 0) throw new ConfigError([{ path: "pool", message: OTHER_MODEL }]);
      // Others may come to need it, so it does not end with this run.
      const { signal: _, ...shared } = this.#mine(task);
      const reply = pool.onEveryWorker({ ...shared, isReplaceable: true });
      Object.assign(model, { key, reply });
      // The next run tries again.
      reply.catch(() => (model.key = undefined));
    }
    model.users.add(this);
    const reply = (await this.#orOver(model.reply)) as Reply<T>;
    await task.accept?.(reply);
    return reply;
  }

  /** The workers remain. */
  async close(): Promise<void> {
    this.#shared.model.users.delete(this);
    this.#over.abort(new InterruptedError("the run is over"));
  }

  owns(taskId: string): boolean {
    return taskId.startsWith(this.#shared.tag);
  }

  /** The id of a task as the run named it. */
  own(taskId: string): string {
    return taskId.slice(this.#shared.tag.length);
  }

  /** A worker's status for this run. */
  see(status: WorkerStatus): WorkerStatus {
    const { taskId } = status;
    if (taskId === null) return status;
    if (this.owns(taskId)) return { ...status, taskId: this.own(taskId) };
    return { ...status, task: null, taskId: null, activity: "working for another run", step: 0, steps: 0 };
  }

  #mine<T extends TaskType>(task: Task<T>): Task<T> {
    const signal = task.signal ? AbortSignal.any([task.signal, this.#signal]) : this.#signal;
    const repair = task.repair && this.#mine(task.repair);
    return { ...task, id: `${this.#shared.tag}${task.id}`, signal, ...(repair && { repair }) };
  }

  #orOver<R>(promise: Promise<R>): Promise<R> {
    return orAborted(promise, this.#signal);
  }
}

const OTHER_MODEL =
  "trains another model for a run that is under way: runs that share a pool at the same time need the same model, lora, data and seed; " +
  "wait for that run to end, or create a pool of its own";
