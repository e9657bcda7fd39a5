import type { TrackerName, TrackerSpec } from "../config/track-section.ts";
import type { Ending } from "./ending.ts";
import { startTracker, type TrackerProcess, type TrackerReport } from "./tracker-process.ts";

/** How far the delivery of a run to a tracker is. */
export interface TrackerStatus {
  readonly tracker: TrackerName;
  /**
   * `open`: the tracker has the run. `behind`: it cannot be reached at the moment, or refuses; the delivery is tried again.
   * `delivered`: the tracker has everything. `incomplete`: the run has ended, and the tracker lacks something.
   */
  readonly state: "open" | "behind" | "delivered" | "incomplete";
  /** The last round that the tracker holds; −1 for none. */
  readonly round: number;
  /** Why it is behind or incomplete. */
  readonly error?: string | undefined;
}

/** Before a process that has died is started again; doubled each time. */
const [FIRST_PAUSE_MS, LONGEST_PAUSE_MS] = [500, 30_000];

/** Keeps a tracker's process going until the run ends: one that dies is started again, and continues where the tracker is. */
export class Delivery {
  readonly #spec: TrackerSpec;
  readonly #directory: string;
  readonly #tell: (status: TrackerStatus) => void;
  readonly #done: Promise<void>;
  #process: TrackerProcess | undefined;
  #ended: Ending | undefined;
  #wake: (() => void) | undefined;
  #isComplete = false;
  #isAbandoned = false;
  #round = -1;
  /** Why it is behind; undefined while it is not. */
  #problem: string | undefined;
  #last: TrackerStatus["state"] | undefined;

  constructor(spec: TrackerSpec, directory: string, tell: (status: TrackerStatus) => void) {
    this.#spec = spec;
    this.#directory = directory;
    this.#tell = tell;
    this.#done = this.#run();
  }

  /** Waits until everything is delivered, at most for the grace, and leaves no process behind. */
  async close(ending: Ending, graceMs: number): Promise<void> {
    this.#ended = ending;
    this.#process?.end(ending);
    this.#wake?.();
    const timer = setTimeout(() => {
      this.#isAbandoned = true;
      this.#process?.kill();
      this.#wake?.();
    }, graceMs);
    await this.#done;
    clearTimeout(timer);
    this.#report(this.#isComplete ? "delivered" : "incomplete");
  }

  async #run(): Promise<void> {
    let pauseMs = FIRST_PAUSE_MS;
    for (;;) {
      const before = this.#round;
      this.#process = startTracker(this.#spec, this.#directory, (report) => this.#take(report));
      if (this.#ended !== undefined) this.#process.end(this.#ended);
      const said = await this.#process.exited;
      if (this.#isComplete || this.#isAbandoned) return;
      this.#fallBehind(`its process ended${said && `: ${said}`}`);
      if (this.#round > before) pauseMs = FIRST_PAUSE_MS;
      await this.#pause(pauseMs);
      if (this.#isAbandoned) return;
      pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
    }
  }

  #take(report: TrackerReport): void {
    switch (report.type) {
      case "behind":
        return this.#fallBehind(report.message);
      case "closed":
        this.#isComplete = true;
        return;
      case "open":
      case "delivered":
        this.#round = report.round;
        this.#problem = undefined;
        if (this.#last !== "open") this.#report("open");
    }
  }

  #fallBehind(problem: string): void {
    this.#problem = problem;
    if (this.#last !== "behind") this.#report("behind");
  }

  #report(state: TrackerStatus["state"]): void {
    this.#last = state;
    const status = { tracker: this.#spec.name, state, round: this.#round };
    const isFine = state === "open" || state === "delivered";
    this.#tell(isFine ? status : { ...status, error: this.#problem ?? "it takes too long" });
  }

  async #pause(milliseconds: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds).unref();
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
