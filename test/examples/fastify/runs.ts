import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import path from "node:path";
import PQueue from "p-queue";
import { buildRun, ConfigError, federate, type FederateOptions, type LoadedRun, loadConfig, loadRun } from "prelort";
import type { Run, RunEvent, WorkerLauncher } from "prelort";

/** What a caller may choose, by the keys of YAML; all else is the operator's. */
const CHOICES = ["rounds", "seed", "fit.lr", "fit.local_steps"];
export type Choices = Readonly<Record<string, unknown>>;

export interface RunsOptions {
  readonly runsDir: string;
  /** The YAML file of the operator. */
  readonly config: string;
  /** How workers are started; Python processes by default. */
  readonly launcher?: WorkerLauncher | undefined;
}

/** A run that waits, or is under way. */
interface Job extends Deferred<Run> {
  /** Takes it out of the queue; `promise` rejects then. */
  readonly leaving: AbortController;
  run?: Run;
}

/** The service's runs: two at a time, the others wait in order of priority. All that has begun is in its folder and outlives us. */
export class Runs {
  readonly #options: RunsOptions;
  readonly #queue = new PQueue({ concurrency: 2 });
  readonly #jobs = new Map<string, Job>();
  readonly #closing = new AbortController();

  constructor(options: RunsOptions) {
    this.#options = options;
  }

  /** Queues a new run. Throws a ConfigError with everything that is wrong with the choices. */
  async start(id: string, choices: Choices = {}, priority = 0): Promise<void> {
    const options = await this.#configure(id, choices);
    if (this.#isRecorded(id)) throw httpError(409, `there is a run ${id}`);
    this.#enqueue(id, options, priority);
  }

  /** Queues a run that was interrupted or killed, with what its caller chose then. */
  async resume(id: string, priority = 0): Promise<void> {
    const { config, state } = await this.load(id);
    if (state === "ended" || state === "running") throw httpError(409, `run ${id} cannot be resumed: it is ${state}`);
    const chosen = CHOICES.map((key) => [key, key.split(".").reduce<unknown>((tree, name) => (tree as Choices)[name], config)]);
    this.#enqueue(id, { ...(await this.#configure(id, Object.fromEntries(chosen))), resume: true }, priority);
  }

  /** Resolves once nothing of it is left. Its committed rounds are kept. */
  async stop(id: string): Promise<void> {
    const job = this.#jobs.get(id);
    if (job?.run) await job.run.stop();
    else if (job) job.leaving.abort();
    else await this.load(id);
  }

  async list() {
    const names = await readdir(this.#options.runsDir).catch(() => []);
    const ids = new Set([...names.filter((name) => this.#isRecorded(name)), ...this.#jobs.keys()]);
    return Promise.all([...ids].toSorted().map((id) => this.describe(id)));
  }

  async describe(id: string) {
    const job = this.#jobs.get(id);
    if (job && !job.run) return { id, state: "queued", metrics: [] };
    if (job?.run && !this.#isRecorded(id)) return { id, state: job.run.state, metrics: [] };
    const { state, error, metrics } = await this.load(id);
    return { id, state, error, metrics };
  }

  /** The events after a number, as they happen. Undefined if the run is over and has no more. */
  async events(id: string, range: { readonly after: number; readonly signal: AbortSignal }): Promise<AsyncIterable<RunEvent> | undefined> {
    const job = this.#jobs.get(id);
    if (job) return eventsOf(job.promise, range);
    const run = await this.load(id);
    const recorded = () => run.events({ ...range, signal: AbortSignal.any([range.signal, this.#closing.signal]) });
    for await (const _ of recorded()) return recorded();
    return this.#closing.signal.aborted ? recorded() : undefined;
  }

  /** A run that has begun. */
  async load(id: string): Promise<LoadedRun> {
    if (!this.#isRecorded(id)) throw httpError(404, `there is no run ${id}`);
    return loadRun(this.#folder(id));
  }

  /** Stops all runs; readers get their last events. */
  async close(): Promise<void> {
    this.#queue.pause();
    await Promise.all([...this.#jobs.keys()].map((id) => this.stop(id)));
    this.#closing.abort();
  }

  #enqueue(id: string, options: FederateOptions, priority: number): void {
    if (this.#jobs.has(id)) throw httpError(409, `run ${id} is queued or under way`);
    const job: Job = { leaving: new AbortController(), ...deferred<Run>() };
    this.#jobs.set(id, job);
    const begin = async () => {
      job.run = federate(options);
      job.resolve(job.run);
      await job.run.result;
    };
    const over = this.#queue.add(begin, { priority, signal: job.leaving.signal });
    // Once it has started, this rejects nothing: why a run failed is its last event.
    void over.catch(job.reject).finally(() => this.#jobs.delete(id));
  }

  async #configure(id: string, choices: Choices): Promise<FederateOptions> {
    const { config: file, runsDir, launcher } = this.#options;
    const refused = Object.keys(choices)
      .filter((key) => !CHOICES.includes(key))
      .map((key) => ({ path: key, message: `cannot be chosen here, only ${CHOICES.join(", ")}` }));
    const set = Object.entries(choices).flatMap(([key, value]) => (CHOICES.includes(key) ? [`${key}=${JSON.stringify(value)}`] : []));
    const config = await loadConfig(file, { set }).catch((error: unknown) => {
      throw error instanceof ConfigError ? new ConfigError([...refused, ...error.issues]) : error;
    });
    if (refused.length > 0) throw new ConfigError(refused);
    return { ...buildRun(config), name: id, runsDir, launcher };
  }

  #folder(id: string): string {
    return path.resolve(this.#options.runsDir, id);
  }

  #isRecorded(id: string): boolean {
    return existsSync(path.join(this.#folder(id), "run.json"));
  }
}

async function* eventsOf(started: Promise<Run>, range: { readonly after: number; readonly signal: AbortSignal }) {
  try {
    yield* (await started).events(range);
  } catch {
    // It left the queue before its turn, so it has no events.
  }
}

interface Deferred<T> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(reason: unknown): void;
}

/** As Promise.withResolvers of Node 22, but nobody has to handle its rejection. */
function deferred<T>(): Deferred<T> {
  let [resolve, reject]: [(value: T) => void, (reason: unknown) => void] = [() => {}, () => {}];
  const promise = new Promise<T>((...both) => ([resolve, reject] = both));
  promise.catch(() => {});
  return { promise, resolve, reject };
}

function httpError(statusCode: number, message: string): Error {
  return Object.assign(new Error(message), { statusCode });
}
