import type { ErrorKind } from "../errors.ts";
import type { RoundMetrics } from "../records/metrics.ts";
import type { WorkerHello, WorkerStatus } from "../workers/task.ts";

/** Everything a run tells while it goes on, as TypeScript gives it and `--json` prints it. */
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
  | RunEndEvent
  | RunFailedEvent;

/** Version of the events' shapes: a field that changes or goes raises it, a new field or event does not. */
export const EVENT_VERSION = 1;

/** The run directory is a copy of another in which a run was under way. The run goes on in the copy alone. */
export interface FolderCopiedEvent {
  readonly type: "folder-copied";
  readonly directory: string;
  /** What held the other directory as it was copied. */
  readonly copyOf: { readonly directory: string; readonly host: string; readonly pid: number };
}

export interface RunStartEvent {
  readonly type: "run-start";
  readonly name: string;
  readonly directory: string;
  readonly rounds: number;
  readonly tiers: readonly number[];
  /** Of a run that is gone on with. */
  readonly resumed?: {
    /** The last round that was committed; −1 for none. */
    readonly after: number;
    readonly metrics: readonly RoundMetrics[];
    /** Of versions and devices, under which the same bytes cannot be promised. */
    readonly differences: readonly { readonly path: string; readonly was: unknown; readonly is: unknown }[];
    /** What was found damaged in its folder, and what becomes of it. */
    readonly remarks: readonly string[];
  };
}

export interface PhaseStartEvent {
  readonly type: "phase-start";
  readonly phase: "start workers" | "prepare data" | "load model" | "train" | "save";
}

export interface WorkerReadyEvent extends WorkerHello {
  readonly type: "worker-ready";
}

/** A reader that is behind gets the latest of each worker only. */
export interface WorkerStatusEvent extends WorkerStatus {
  readonly type: "worker-status";
}

/** In a place for a worker too many ended in a row: it is not filled again. */
export interface WorkerGivenUpEvent {
  readonly type: "worker-given-up";
  readonly workerId: string;
  readonly device: string;
  readonly error: string;
}

export interface DataReadyEvent {
  readonly type: "data-ready";
  readonly clients: readonly { readonly id: string; readonly size: number; readonly r: number }[];
  readonly labels: readonly string[];
  readonly evalExamples: number;
  readonly truncated: number;
  /** What the user should know of the data, though it can be used. */
  readonly remarks: readonly string[];
}

/** The global adapter starts from another: a PEFT adapter, or that of a run after a round. */
export interface AdapterReadyEvent {
  readonly type: "adapter-ready";
  readonly path: string;
  readonly round: number | null;
  /** Its rank. */
  readonly r: number;
  /** Share of its energy ‖s·B·A‖² that lay beyond R and is gone. */
  readonly lost: number;
}

export interface RoundStartEvent {
  readonly type: "round-start";
  readonly round: number;
  readonly clients: readonly { readonly id: string; readonly r: number }[];
}

export interface ClientFitEvent {
  readonly type: "client-fit";
  readonly round: number;
  readonly clientId: string;
  readonly r: number;
  readonly workerId: string;
  readonly loss: number | null;
  readonly seconds: number;
}

export interface ClientFailureEvent {
  readonly type: "client-failure";
  readonly round: number;
  readonly clientId: string;
  readonly attempt: number;
  readonly workerId: string;
  readonly error: string;
  readonly willRetry: boolean;
}

/** A client ended every worker that it was tried on, and is selected no more. */
export interface ClientSetAsideEvent {
  readonly type: "client-set-aside";
  readonly round: number;
  readonly clientId: string;
  readonly error: string;
}

export interface EvaluationStartEvent {
  readonly type: "evaluation-start";
  readonly round: number;
}

export interface RoundEndEvent {
  readonly type: "round-end";
  readonly round: number;
  readonly metrics: RoundMetrics;
  readonly sha256: string;
}

/** The run came to its end: workers are gone and its files closed. The last event. */
export interface RunEndEvent {
  readonly type: "run-end";
  readonly directory: string;
  /** Folder of the PEFT adapter at each tier. */
  readonly adapters: readonly string[];
  readonly sha256: string;
}

/** The run failed or was interrupted: `result`, and the iteration after this event, reject with the error. The last event. */
export interface RunFailedEvent {
  readonly type: "run-failed";
  /** Of a PrelortError; null for any other error. */
  readonly kind: ErrorKind | null;
  readonly error: string;
}
