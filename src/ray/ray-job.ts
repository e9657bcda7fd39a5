import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { ConfigError, RefusedError } from "../errors.ts";
import { SESSION } from "../protocol/limits.ts";
import type { ControllerMessage, WorkerMessage } from "../protocol/messages.ts";
import type { Channel, ChannelListener } from "../workers/channels.ts";
import { describeDelay, describeJobEnd, describeWait, keysIn } from "./driver-log.ts";
import { endJob } from "./end-job.ts";
import type { JobsApi, JobStatus } from "./jobs-api.ts";
import { RayError, type RayOption } from "./ray-error.ts";

/** How the driver of a job is started. */
export interface JobPlan {
  /** What Ray's dashboard shows the job to be for. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Uploads what it needs; returns its runtime environment. */
  prepare(): Promise<Readonly<Record<string, unknown>>>;
  /** The shell command that runs it, once it is known where it has to connect. */
  entrypoint(channel: Channel): string;
}

export interface JobListener {
  /** From the driver. */
  message(message: WorkerMessage): void;
  /** What everything waits for, in words. */
  waiting(reason: string): void;
  /** Nothing of the job is left, or can be reached. Called once, unless the job was closed before. */
  ended(end: JobEnd): void;
}

export interface JobEnd {
  readonly problem: string;
  /** If it is the first job and never came up: what has to be changed. */
  readonly cause?: ConfigError | undefined;
}

export interface JobTimes {
  /** Between two looks at a job whose driver has not joined. */
  readonly comingUpMs: number;
  /** Between two looks at a job that runs. */
  readonly runningMs: number;
  /** How long Ray may not answer before that counts. */
  readonly patienceMs: number;
  /** How long a job may be PENDING, while its environment is set up (Ray gives up after 15 minutes), and then take to join. */
  readonly pendingMs: number;
}

export const JOB_TIMES: JobTimes = { comingUpMs: 500, runningMs: 2000, patienceMs: 60_000, pendingMs: 20 * 60_000 };

/** One job on Ray: its driver starts and ends workers, and is told to over a connection of its own. */
export class RayJob {
  readonly id = `prelort-${randomBytes(8).toString("hex")}`;
  readonly #api: JobsApi;
  readonly #plan: JobPlan;
  readonly #listener: JobListener;
  readonly #times: JobTimes;
  readonly #channel: Channel;
  /** Whether an earlier job came up: then Ray's silence is a disturbance, and not a wrong address. */
  readonly #isReplacement: boolean;
  /** Aborted once the job has ended or is being closed. */
  readonly #over = new AbortController();
  /** Aborted once it is closed. A submit may go on until then, since Ray leaves the job of one that is broken off PENDING for ever. */
  readonly #closed = new AbortController();
  readonly #submitted: Promise<boolean>;
  #outbox: ControllerMessage[] = [];
  #isFlushing = false;
  /** The driver's. */
  #publicKey: string | undefined;
  #hasJoined = false;
  #ending: Promise<void> | undefined;

  constructor(api: JobsApi, openChannel: (listener: ChannelListener) => Channel, { plan, listener, times, isReplacement }: JobOptions) {
    this.#api = api;
    this.#plan = plan;
    this.#listener = listener;
    this.#times = times;
    this.#isReplacement = isReplacement;
    this.#channel = openChannel({
      message: (message) => {
        this.#hasJoined = true;
        void this.#flush();
        if (!this.#over.signal.aborted) listener.message(message);
      },
      invalid: (error) => this.#fail(`its driver sent an invalid message: ${error.message}`),
    });
    this.#submitted = this.#submit();
    const watch = async () => {
      if (await this.#submitted) await this.#watch();
    };
    watch().catch((error: unknown) => this.#failWith(error));
  }

  /** Sends a message to the driver once it has joined. */
  send(message: ControllerMessage): void {
    this.#outbox.push(message);
    void this.#flush();
  }

  /** Takes back a launch that has not been sent. Returns whether it has not. */
  withdraw(workerId: string): boolean {
    const left = this.#outbox.filter((message) => message.type !== "launch" || message.worker_id !== workerId);
    const isWithdrawn = left.length < this.#outbox.length;
    this.#outbox = left;
    return isWithdrawn;
  }

  /** Ends the job. Never rejects; takes at most `withinMs`, even if Ray does not answer. Safe to call twice. */
  async close(withinMs: number): Promise<void> {
    this.#over.abort();
    this.#ending ??= this.#end(withinMs);
    await this.#ending;
  }

  async #end(withinMs: number): Promise<void> {
    const askDriver = () => (this.#hasJoined ? this.#channel.send({ ...SESSION, type: "stop" }) : Promise.reject(new Error("not joined")));
    await endJob(this.#api, this.id, { submitted: this.#submitted, askDriver, withinMs });
    this.#closed.abort();
    // From now on a driver that comes up late is refused, and ends by its lease.
    this.#channel.close();
  }

  /** Resolves with whether it was submitted; nothing else may have happened to the job then. */
  async #submit(): Promise<boolean> {
    const started = performance.now();
    while (!this.#over.signal.aborted) {
      try {
        const runtimeEnv = await this.#plan.prepare();
        if (this.#over.signal.aborted) return false;
        const entrypoint = this.#plan.entrypoint(this.#channel);
        const { metadata } = this.#plan;
        await this.#api.submit({ id: this.id, entrypoint, runtimeEnv, metadata }, { signal: this.#closed.signal });
        return true;
      } catch (error) {
        const mayPass = error instanceof RayError && (error.isStarting || (this.#isReplacement && error.isPassing));
        const patienceMs = error instanceof RayError && error.isStarting ? this.#times.pendingMs : this.#times.patienceMs;
        if (!mayPass || performance.now() - started > patienceMs) {
          this.#failWith(error);
          return false;
        }
        this.#listener.waiting(error.message);
      }
      await this.#pause(this.#times.runningMs);
    }
    return false;
  }

  /** Looks at the job until it is over. */
  async #watch(): Promise<void> {
    const started = performance.now();
    let [lastAnswer, runsSince, isLogRead] = [started, Infinity, false];
    while (!this.#over.signal.aborted) {
      try {
        const status = await this.#api.status(this.id, { signal: this.#over.signal });
        if (!status) return this.#fail("Ray does not know it any more");
        if (status.hasEnded) return await this.#describeEnd(status);
        if (status.status !== "PENDING") runsSince = Math.min(runsSince, performance.now());
        const isLate = performance.now() - (status.status === "PENDING" ? started : runsSince) > this.#times.pendingMs;
        if (isLate && !this.#hasJoined) return this.#fail(describeDelay(status, this.#times.pendingMs));
        if (!isLogRead) {
          // Once more after it has joined, since a second key would be another driver's.
          const isLast = this.#hasJoined;
          await this.#readKey(status);
          isLogRead = isLast;
        }
        lastAnswer = performance.now();
      } catch (error) {
        if (!(error instanceof RayError)) throw error;
        this.#endure(error, performance.now() - lastAnswer);
      }
      await this.#pause(isLogRead ? this.#times.runningMs : this.#times.comingUpMs);
    }
  }

  /** Ray did not answer as it should. A driver that can be reached needs no Ray to go on. */
  #endure(error: RayError, silentMs: number): void {
    if (this.#hasJoined) return this.send(NOTHING);
    if (!error.isPassing || silentMs > this.#times.patienceMs) return this.#failWith(error);
    this.#listener.waiting(error.message);
  }

  async #readKey(status: JobStatus): Promise<void> {
    if (!this.#hasJoined) this.#listener.waiting(describeWait(status));
    // Ray has no log of a job that has not been started.
    if (status.status === "PENDING") return;
    const log = await this.#api.log(this.id, { signal: this.#over.signal });
    const [key, second] = keysIn(log);
    if (second !== undefined) return this.#fail("its log has more than one key of a driver: one of them may be forged");
    if (key === undefined || this.#publicKey !== undefined || this.#over.signal.aborted) return;
    this.#publicKey = key;
    this.#channel.admit(key);
    void this.#flush();
  }

  async #describeEnd(status: JobStatus): Promise<void> {
    const log = await this.#api.log(this.id, { signal: this.#over.signal }).catch(() => "");
    const { problem, option } = describeJobEnd(status, log);
    this.#fail(problem, option);
  }

  /** Sends what is waiting, in order, as soon as the driver is there. */
  async #flush(): Promise<void> {
    if (this.#isFlushing || this.#publicKey === undefined) return;
    this.#isFlushing = true;
    for (let message = this.#outbox[0]; message && !this.#over.signal.aborted; message = this.#outbox[0]) {
      try {
        this.#outbox.shift();
        await this.#channel.send(message);
        this.#hasJoined = true;
      } catch (error) {
        if (this.#hasJoined || !(error instanceof RefusedError)) {
          this.#fail("the connection to its driver was lost");
          break;
        }
        this.#outbox.unshift(message);
        await this.#pause(JOIN_RETRY_MS);
      }
    }
    this.#isFlushing = false;
  }

  #fail(problem: string, option: RayOption = "workers.cluster"): void {
    this.#failWith(new RayError(`the Ray job ${this.id} is lost: ${problem}`, { option }));
  }

  #failWith(error: unknown): void {
    if (this.#over.signal.aborted) return;
    const problem = error instanceof Error ? error.message : String(error);
    const hasComeUp = this.#hasJoined || this.#isReplacement;
    const wrong = error instanceof RayError ? new ConfigError([{ path: error.option, message: problem }]) : error;
    void this.close(ABANDON_MS);
    this.#listener.ended({ problem, cause: !hasComeUp && wrong instanceof ConfigError ? wrong : undefined });
  }

  async #pause(milliseconds: number): Promise<void> {
    await delay(milliseconds, undefined, { signal: this.#over.signal }).catch(() => {});
  }
}

interface JobOptions {
  readonly plan: JobPlan;
  readonly listener: JobListener;
  readonly times: JobTimes;
  readonly isReplacement: boolean;
}

const JOIN_RETRY_MS = 100;
/** How long a job that is lost is asked to end. */
const ABANDON_MS = 5000;
/** Shows whether the driver is still connected. */
const NOTHING: ControllerMessage = { ...SESSION, type: "kill", worker_id: "none" };
