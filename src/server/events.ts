import type { ErrorKind } from "../errors.ts";
import type { BestRound, EarlyStop } from "../records/best-round.ts";
import type { RoundMetrics } from "../records/metrics.ts";
import type { TrackerStatus } from "../track/delivery.ts";
import type { WorkerHello, WorkerStatus } from "../workers/task.ts";

/** Everything a run reports while it is under way, in TypeScript, with `--json` and in `events.jsonl`. */
export type RunEvent =
  | FolderCopiedEvent
  | RunStartEvent
  | PhaseStartEvent
  | WorkerReadyEvent
  | WorkerStatusEvent
  | WorkerGivenUpEvent
  | DataReadyEvent
  | AdapterReadyEvent
  | RoundStartEvent
  | ClientFitEvent
  | ClientFailureEvent
  | ClientSetAsideEvent
  | EvaluationStartEvent
  | RoundEndEvent
  | EarlyStopEvent
  | TrackerStatusEvent
  | RunEndEvent
  | RunFailedEvent;

/** An event that has no number yet. */
export type NewEvent = RunEvent extends infer Event ? (Event extends RunEvent ? Omit<Event, keyof Numbered> : never) : never;

/** What every event has. */
export interface Numbered {
  /**
   * Rises from event to event, not by one: it is the time in milliseconds, or one more than the last. So it also rises when the run is
   * resumed, and those of a run that replaces this one are higher.
   */
  readonly number: number;
  /** When it happened, in milliseconds since 1970 by the controller's clock. */
  readonly at: number;
}

/** Version of the events' shapes: raised when a field changes or is removed, not when a field or event is added. */
export const EVENT_VERSION = 1;

/** The run directory is a copy of another in which a run was under way. This run continues in the copy alone. */
export interface FolderCopiedEvent extends Numbered {
  readonly type: "folder-copied";
  readonly directory: string;
  /** The process that held the other directory when it was copied. */
  readonly copyOf: { readonly directory: string; readonly host: string; readonly pid: number };
}

export interface RunStartEvent extends Numbered {
  readonly type: "run-start";
  readonly name: string;
  readonly directory: string;
  readonly rounds: number;
  readonly tiers: readonly number[];
  /** Of a resumed run. */
  readonly resumed?: {
    /** The last round that was committed; −1 for none. */
    readonly after: number;
    /** Why that is its last, though not all rounds were trained. */
    readonly stopped?: EarlyStop;
    readonly metrics: readonly RoundMetrics[];
    /** Differences in versions and devices, with which the same bytes cannot be promised. */
    readonly differences: readonly { readonly path: string; readonly was: unknown; readonly is: unknown }[];
    /** What is damaged in its folder, and what the run does about it. */
    readonly remarks: readonly string[];
  };
}

export interface PhaseStartEvent extends Numbered {
  readonly type: "phase-start";
  readonly phase: "start workers" | "prepare data" | "load model" | "train" | "save";
}

export interface WorkerReadyEvent extends Numbered, WorkerHello {
  readonly type: "worker-ready";
}

/** A reader that is behind gets only the latest of each worker. */
export interface WorkerStatusEvent extends Numbered, WorkerStatus {
  readonly type: "worker-status";
}

/** A worker slot is disabled, since too many of its workers crashed in a row. */
export interface WorkerGivenUpEvent extends Numbered {
  readonly type: "worker-given-up";
  readonly workerId: string;
  readonly device: string;
  readonly error: string;
}

export interface DataReadyEvent extends Numbered {
  readonly type: "data-ready";
  readonly clients: readonly { readonly id: string; readonly size: number; readonly r: number }[];
  readonly labels: readonly string[];
  readonly evalExamples: number;
  readonly truncated: number;
  /** What the user should know about the data, though it can be used. */
  readonly remarks: readonly string[];
}

/** The global adapter starts from another: a PEFT adapter, or a run's. */
export interface AdapterReadyEvent extends Numbered {
  readonly type: "adapter-ready";
  readonly path: string;
  readonly round: number | null;
  /** Its rank. */
  readonly r: number;
  /** Share of its energy ‖s·B·A‖² above rank R, which was cut. */
  readonly lost: number;
}

export interface RoundStartEvent extends Numbered {
  readonly type: "round-start";
  readonly round: number;
  readonly clients: readonly { readonly id: string; readonly r: number }[];
}

export interface ClientFitEvent extends Numbered {
  readonly type: "client-fit";
  readonly round: number;
  readonly clientId: string;
  readonly r: number;
  readonly workerId: string;
  readonly loss: number | null;
  readonly seconds: number;
  /** Peak memory during the fit: what PyTorch reserved on a GPU, the resident memory of the process on a CPU. Null if it is unknown. */
  readonly peakMemoryBytes: number | null;
}

export interface ClientFailureEvent extends Numbered {
  readonly type: "client-failure";
  readonly round: number;
  readonly clientId: string;
  readonly attempt: number;
  readonly workerId: string;
  readonly error: string;
  readonly willRetry: boolean;
}

/** A client is quarantined, since the worker of its last attempt died: it is never selected again. */
export interface ClientSetAsideEvent extends Numbered {
  readonly type: "client-set-aside";
  readonly round: number;
  readonly clientId: string;
  readonly error: string;
}

export interface EvaluationStartEvent extends Numbered {
  readonly type: "evaluation-start";
  readonly round: number;
}

export interface RoundEndEvent extends Numbered {
  readonly type: "round-end";
  readonly round: number;
  readonly metrics: RoundMetrics;
  readonly sha256: string;
  /** With `evaluate.best`: the best round so far. */
  readonly best?: BestRound;
}

/** The run ends before all of its rounds are trained, by `stop_when`. */
export interface EarlyStopEvent extends Numbered, EarlyStop {
  readonly type: "early-stop";
  /** Absent if no round's metric had a finite value. */
  readonly best?: BestRound;
}

/** The delivery to a tracker has begun, cannot go on at the moment, or is over. */
export interface TrackerStatusEvent extends TrackerStatus, Numbered {
  readonly type: "tracker-status";
}

/** The run ended: workers are gone and its files closed. The last event. */
export interface RunEndEvent extends Numbered {
  readonly type: "run-end";
  readonly directory: string;
  /** Folders of the PEFT adapters, one for each tier. */
  readonly adapters: readonly string[];
  readonly sha256: string;
  /** With `evaluate.best`: the best round, and the folders of its adapters. */
  readonly best?: BestRound & { readonly adapters: readonly string[] };
  /** With `stop_when`: why it ended before its last round. */
  readonly stopped?: EarlyStop;
}

/** The run failed or was interrupted: `result`, and the iteration after this event, reject with the error. The last event. */
export interface RunFailedEvent extends Numbered {
  readonly type: "run-failed";
  /** The kind of a PrelortError; null for any other error. */
  readonly kind: ErrorKind | null;
  readonly error: string;
}
