/*
 * What the server tells the page, as JSON. Types alone: the page's modules run in a browser, so nothing here may import from Node.
 * Times are milliseconds since the epoch, of the controller's clock.
 */

import type { BestWorded, StopWorded } from "../report/best-words.ts";
import type { ToldRound } from "../report/sample-answers.ts";

export type ListedState = "running" | "ended" | "failed" | "interrupted" | "killed" | "damaged" | "no run";
export type MeasureName = "accuracy" | "perplexity" | "F1" | "loss";

/** A folder's row in the list. */
export interface RunSummary {
  readonly name: string;
  readonly state: ListedState;
  /** What is damaged or missing, or why the run failed; null if nothing is. */
  readonly problem: string | null;
  /** Who holds a run that is under way. */
  readonly holder: { readonly host: string; readonly pid: number } | null;
  readonly method: string | null;
  readonly model: string | null;
  /** The last round with metrics, and the number of rounds of the config. */
  readonly rounds: { readonly done: number; readonly of: number } | null;
  /** Of the last evaluated round. */
  readonly quality: {
    readonly measure: MeasureName;
    readonly round: number;
    readonly best: TierValue;
    readonly worst: TierValue;
  } | null;
  /** Sum of the recorded times; null if none are recorded. */
  readonly seconds: number | null;
  /** When one of its files last changed. */
  readonly changed: number | null;
}

export interface TierValue {
  readonly r: number;
  readonly value: number;
}

/** Value and 95 % interval of one tier; null where it was not finite or cannot be computed. */
export type Estimate = readonly [value: number | null, low: number | null, high: number | null];

/** The figures of a round. Arrays are in the order of the run's tiers; they are empty where nothing was measured. */
export interface RoundRow {
  readonly round: number;
  readonly measure: MeasureName;
  readonly tiers: readonly number[];
  readonly quality: readonly Estimate[];
  /** Held-out examples of a tier. */
  readonly examples: number;
  /** Clients that trained each segment. */
  readonly coverage: readonly number[];
  /** ‖s·B_seg·A_seg‖² of each segment. */
  readonly energy: readonly number[];
  readonly fitLoss: number | null;
  readonly bytesDown: number;
  readonly bytesUp: number;
  readonly reported: number;
  readonly failed: readonly string[];
  readonly late: readonly string[];
}

/** What the page needs of an event. */
export type LiveEvent = { readonly at: number } &
  /** A process began to run it: at first, or after a resume. */
  (
    | { readonly type: "session-start" }
    | { readonly type: "round-start"; readonly round: number; readonly clients: number }
    | {
        readonly type: "worker-ready";
        readonly workerId: string;
        readonly host: string;
        readonly device: string;
        readonly deviceBytes: number | null;
      }
    | {
        readonly type: "worker-status";
        readonly workerId: string;
        readonly state: string;
        readonly activity: string;
        readonly task: { readonly kind: string; readonly round: number | null; readonly clientId: string | null } | null;
      }
    | {
        readonly type: "client-fit";
        readonly round: number;
        readonly clientId: string;
        readonly workerId: string;
        readonly seconds: number;
        /** Null if it is unknown. */
        readonly peakMemoryBytes: number | null;
      }
    | ({ readonly type: "client-failure" } & Failure)
    | { readonly type: "round-end"; readonly row: RoundRow; readonly best: BestWorded | null; readonly told: ToldRound }
    | { readonly type: "early-stop"; readonly stopped: StopWorded }
    | { readonly type: "run-end" }
    | { readonly type: "run-failed"; readonly error: string }
  );

export interface Failure {
  readonly at: number;
  readonly round: number | null;
  readonly clientId: string | null;
  readonly workerId: string;
  readonly attempt: number | null;
  readonly error: string;
  readonly willRetry: boolean;
}

/** A worker's device, and the memory that its fits took at most; null where it is not recorded. */
export interface WorkerMemory {
  readonly id: string;
  /** The name of its machine. */
  readonly host: string | null;
  readonly device: string | null;
  readonly deviceBytes: number | null;
  readonly last: FitMemory | null;
  readonly peak: FitMemory | null;
}

export interface FitMemory {
  readonly bytes: number;
  readonly round: number;
}

/** What a run is doing now. */
export interface RunStatus {
  readonly summary: RunSummary;
  /** What it waits for, in words; null if its events are not recorded. */
  readonly wait: string | null;
  readonly workers: readonly { readonly id: string; readonly words: string; readonly since: number }[];
}

/** Which of the rounds so far is the best, by `evaluate.best`, and why the run stopped early; null where nothing says so. */
export interface Choice {
  readonly best: BestWorded | null;
  readonly stopped: StopWorded | null;
}

/** Everything of a run up to its event `lastEvent`. */
export interface RunDetail extends RunStatus, Choice {
  readonly directory: string;
  /** What of its files cannot be read. */
  readonly problems: readonly string[];
  readonly lastEvent: number;
  readonly method: { readonly name: string; readonly note: string } | null;
  /** As `run.json` spells it. */
  readonly config: unknown;
  readonly versions: Readonly<Record<string, string>>;
  readonly device: string | null;
  readonly doubts: readonly string[];
  readonly tiers: readonly number[];
  readonly rows: readonly RoundRow[];
  /** The rounds with samples that are compared: the one before training, and the latest since. */
  readonly told: readonly ToldRound[];
  /** Seconds by round and phase. */
  readonly timings: readonly { readonly round: number; readonly phase: string; readonly seconds: number }[];
  readonly timeline: TimelineData;
  readonly memory: readonly WorkerMemory[];
  readonly failures: readonly Failure[];
}

/** A run's config as `run.json` spells it. */
export interface NamedConfig {
  readonly name: string;
  readonly config: unknown;
}

export type Outcome = "running" | "trained" | "failed" | "retried" | "stopped" | "other";

/** A worker's time with one task. `from` and `to` are milliseconds of the run's own time, in which nobody held it left out. */
export interface Span {
  readonly worker: number;
  /** The client; otherwise what the worker did. */
  readonly what: string;
  readonly isFit: boolean;
  readonly round: number | null;
  readonly attempt: number;
  readonly from: number;
  to: number | null;
  outcome: Outcome;
}

export interface TimelineData {
  readonly workers: readonly string[];
  readonly spans: readonly Span[];
  /** When rounds began. */
  readonly rounds: readonly { readonly round: number; readonly at: number }[];
  /** When the run was resumed. */
  readonly resumes: readonly number[];
  /** What to subtract from the controller's clock. */
  readonly offset: number;
  /** The run's own time of its last event. */
  readonly now: number;
  /** Earlier spans that are left out. */
  readonly dropped: number;
}

/** One run's quality over rounds, thinned to few enough rounds to draw. */
export interface OverlayRun {
  readonly name: string;
  readonly measure: MeasureName;
  readonly tiers: readonly number[];
  readonly rounds: readonly number[];
  /** By tier, then by round. */
  readonly values: readonly (readonly (number | null)[])[];
  readonly problem: string | null;
}

/** Changes of the list since the message before. */
export interface ListChange {
  readonly changed: readonly RunSummary[];
  readonly removed: readonly string[];
}

export interface ListPage extends ListChange {
  readonly version: string;
}

/** What every page shows or needs. */
export interface SiteFacts {
  readonly folder: string;
  /** Whether the page may stop and resume runs. */
  readonly canControl: boolean;
}
