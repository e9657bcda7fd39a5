import { setImmediate, setTimeout as delay } from "node:timers/promises";
import PQueue from "p-queue";
import { ConfigError, RunFailedError, type WorkerError } from "../errors.ts";
import { createBuffers } from "./buffers.ts";
import { Channels } from "./channels.ts";
import { createDeferred } from "../base/deferred.ts";
import { Hosts } from "./hosts.ts";
import type { OpenLauncher, WorkerLauncher } from "./launch.ts";
import { Leasing, type Wanted } from "./leasing.ts";
import { Preparations } from "./preparations.ts";
import { createSlot, deathsOf, type Lease, type Slot } from "./slot.ts";
import type { PoolListener, Reply, Task, WorkerHello } from "./task.ts";
import { isServing } from "./task.ts";
import { Worker } from "./worker.ts";
import type { WorkerSettings } from "./settings.ts";

export interface SupervisorOptions extends WorkerSettings {
  /** Worker i gets the device i modulo the number of devices. */
  readonly devices: readonly string[];
  readonly count: number;
  /** After how many crashes in a row a slot is disabled: outside tasks or in different ones, so that its device is at fault. Default: 3. */
  readonly mostDeaths?: number;
  /** How many must be ready before `start` resolves. Default: 1. */
  readonly least?: number;
  readonly listener?: PoolListener;
  /** Throws an error for a worker that must not be used. */
  readonly accept?: (worker: WorkerHello) => void;
}

const MOST_DEATHS = 3;
/** Before a worker elsewhere is started again, for each crash in a row. */
const PAUSE_MS = 1000;

/** How a lease has ended. */
export interface Released {
  readonly isCompleted: boolean;
  /** Id of the task, if it failed for whatever reason. */
  readonly failed?: string;
  /** Its machine was lost. */
  readonly isLost?: boolean | undefined;
}

/** Keeps workers alive and prepared, and leases them to tasks. */
export class Supervisor {
  readonly #options: SupervisorOptions;
  /** Aborted, here or elsewhere, once nothing may run any more; everyone who waits gets its reason. */
  readonly #shutdown: AbortController;
  readonly #slots: readonly Slot[];
  readonly #workers = new Map<string, Worker>();
  readonly #preparations: Preparations;
  /** Of the launcher's own programs. */
  readonly #channels: Channels;
  readonly #launcher: WorkerLauncher & Partial<OpenLauncher>;
  readonly #started = createDeferred<void>();
  /** What all workers have in common. Answers in shared memory: one is processed while the next is fetched. */
  readonly #receiving = { buffers: createBuffers(), turns: new PQueue({ concurrency: 2 }), hosts: new Hosts() };
  readonly #leasing: Leasing;
  readonly #mostDeaths: number;
  #upkeep: Promise<unknown> = Promise.resolve();
  #hasBeenUp = false;
  #hasStarted = false;
  #hasCompleted = false;
  #disabledSlots = 0;

  constructor(options: SupervisorOptions, shutdown: AbortController) {
    this.#options = options;
    this.#mostDeaths = options.mostDeaths ?? MOST_DEATHS;
    this.#shutdown = shutdown;
    this.#channels = new Channels(options.transport);
    this.#launcher = options.launcher.open?.(this.#channels.open) ?? options.launcher;
    this.#preparations = new Preparations(shutdown.signal, options.listener);
    this.#slots = Array.from({ length: options.count }, (_, index) => createSlot(index));
    this.#leasing = new Leasing(this.#slots, () => this.#preparations.count, shutdown.signal);
    this.#started.promise.catch(() => {}); // start() may never be called
    shutdown.signal.addEventListener("abort", () => this.#rejectAll(shutdown.signal.reason));
  }

  /** Starts the workers. Resolves when the first, or as many as are needed, are ready for tasks. */
  start(): Promise<void> {
    const { transport } = this.#options;
    const readFrames = async () => {
      // Frames of a worker that has been replaced carry an id that is no longer known, and are dropped.
      for await (const { peer, frames } of transport.receive()) {
        const worker = this.#workers.get(peer);
        if (worker) worker.receive(...frames);
        else this.#channels.receive(peer, frames);
      }
    };
    const abort = (error: unknown) => this.#shutdown.abort(error);
    readFrames().catch(abort);
    this.#upkeep = Promise.all(this.#slots.map((slot) => this.#keepUp(slot).catch(abort)));
    return this.#started.promise;
  }

  /** Waits for a worker, which is leased until `release`. */
  acquire(wanted: Wanted): Promise<Lease> {
    return this.#leasing.acquire(wanted);
  }

  release(lease: Lease, { isCompleted, failed, isLost }: Released): void {
    const { slot, worker } = lease;
    const isAlive = isServing(worker.status());
    if (isCompleted) {
      this.#hasCompleted = true;
      slot.deaths = 0;
      slot.poison.clear();
    } else if (failed !== undefined && !isAlive && !isLost) slot.poison.add(failed);
    // #bury ends the lease of a worker that died in a task: that tells such a death from one outside a task.
    if (slot.worker !== worker || !isAlive) return;
    slot.leases--;
    if (slot.leases === 0) void this.#settle(lease);
    else this.#leasing.dispatchSoon();
  }

  /** Has every worker, present or restarted, do this before any other task. Resolves with the first reply. */
  prepare(task: Task): Promise<Reply> {
    this.#shutdown.signal.throwIfAborted();
    const first = this.#preparations.add(task);
    // Workers that are starting or busy do it as soon as they are ready.
    for (const slot of this.#slots) {
      if (slot.isUp && !slot.isPreparing && slot.leases === 0 && slot.worker) void this.#settle({ slot, worker: slot.worker });
    }
    return first;
  }

  /** The worker of that id, unless its process is gone. */
  worker(id: string): Worker | undefined {
    return this.#workers.get(id);
  }

  /** Asks every worker to drop its tasks. */
  cancel(): void {
    for (const worker of this.#workers.values()) worker.cancel();
  }

  /** Resolves when no process is left. May be called again with a shorter grace. */
  async stop(graceMs: number): Promise<void> {
    for (const worker of this.#workers.values()) worker.stop(graceMs);
    await this.#upkeep;
    await this.#launcher.close?.();
  }

  #rejectAll(reason: unknown): void {
    this.#started.reject(reason);
    this.#preparations.reject(reason);
  }

  async #keepUp(slot: Slot): Promise<void> {
    const { signal } = this.#shutdown;
    for (let generation = 0; !signal.aborted && deathsOf(slot) < this.#mostDeaths; generation++) {
      // Another machine may be starting anew, or busy.
      if (this.#launcher.isRemote && deathsOf(slot) > 0) await delay(PAUSE_MS * deathsOf(slot), undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      const worker = this.#launch(slot, generation);
      const settled = worker.ready.then(
        (hello) => {
          try {
            this.#options.accept?.(hello);
          } catch (cause) {
            return worker.kill(`cannot be used: ${(cause as Error).message}`, { cause });
          }
          this.#hasBeenUp = true;
          this.#options.listener?.ready?.(hello);
          return this.#settle({ slot, worker });
        },
        () => {},
      );
      const error = await worker.ended;
      await settled;
      if (!(await this.#bury(slot, worker, { error, isFirst: generation === 0 }))) return;
    }
  }

  #launch(slot: Slot, generation: number): Worker {
    const { listener } = this.#options;
    const id = generation === 0 ? `w${slot.index}` : `w${slot.index}.${generation}`;
    const place = { id, index: slot.index, device: this.#deviceOf(slot) };
    const worker = new Worker(place, { ...this.#options, ...this.#receiving, launcher: this.#launcher }, (status) =>
      listener?.status?.(status),
    );
    this.#workers.set(id, worker);
    slot.worker = worker;
    slot.prepared = 0;
    return worker;
  }

  /** Frees the slot of a worker whose process is gone. Resolves with whether this end allows a replacement. */
  async #bury(
    slot: Slot,
    { id }: Worker,
    { error, isFirst }: { readonly error: WorkerError | undefined; readonly isFirst: boolean },
  ): Promise<boolean> {
    this.#workers.delete(id);
    slot.worker = undefined;
    slot.isUp = false;
    if (!error) return false;
    if (slot.leases === 0 && !error.details.isLost) slot.deaths++;
    slot.leases = 0;
    // First, the holder of its lease records the task in which it died.
    await setImmediate();
    const problem = error.cause instanceof ConfigError ? error.cause : undefined;
    // A device that cannot be used is a config error, even if workers on other devices are up; not a machine that a cluster adds
    // to a run that others carry. If no worker has ever been up, the others would fail the same way, unless a signal from outside
    // ended this one, or they are on other machines.
    const isAdded = this.#hasCompleted && this.#options.launcher.isRemote;
    if (problem && isFirst && !isAdded) this.#shutdown.abort(problem);
    else if (!this.#hasBeenUp && error.details.signal === undefined && !this.#options.launcher.isRemote)
      this.#shutdown.abort(problem ?? error);
    else if (deathsOf(slot) >= this.#mostDeaths) this.#disable(slot, id, error);
    this.#leasing.dispatchSoon();
    return true;
  }

  #disable(slot: Slot, workerId: string, error: WorkerError): void {
    this.#options.listener?.givenUp?.({ workerId, device: this.#deviceOf(slot), error });
    const left = this.#slots.length - ++this.#disabledSlots;
    if (left >= (this.#hasStarted ? 1 : (this.#options.least ?? 1))) return;
    const problem = `${left === 0 ? "no worker is left" : `too few workers are left, ${left}`}: ${this.#mostDeaths} crashed in a row in every ${left === 0 ? "" : "other "}slot; the last with:\n${error.message}`;
    this.#shutdown.abort(new RunFailedError(problem, { cause: error }));
  }

  #deviceOf({ index }: Slot): string {
    const { devices } = this.#options;
    return devices[index % devices.length] ?? "cpu";
  }

  /** Has a worker do the preparations it lacks; after that it takes tasks. */
  async #settle({ slot, worker }: Lease): Promise<void> {
    slot.isPreparing = slot.prepared < this.#preparations.count;
    try {
      while (slot.prepared < this.#preparations.count) {
        if (!isServing(worker.status()) || !(await this.#preparations.run(slot.prepared, worker))) return;
        slot.prepared++;
      }
    } finally {
      slot.isPreparing = false;
    }
    if (!isServing(worker.status())) return;
    slot.isUp = true;
    this.#hasStarted ||= this.#slots.filter(({ isUp }) => isUp).length >= (this.#options.least ?? 1);
    if (this.#hasStarted) this.#started.resolve();
    this.#leasing.dispatchSoon();
  }
}
