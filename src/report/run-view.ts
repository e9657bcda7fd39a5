import type { NewEvent } from "../server/events.ts";
import type { RoundMetrics } from "../records/metrics.ts";
import type { WorkerStatus } from "../workers/task.ts";

/** The state of a run, derived from its events. */
export interface RunView {
  readonly run: Extract<NewEvent, { type: "run-start" }> | undefined;
  /** What the run is waiting for, in words. */
  readonly wait: string;
  readonly workers: ReadonlyMap<string, WorkerView>;
  /** Current server round. */
  readonly round: number;
  readonly selected: number;
  /** Number of its clients that have neither reported nor failed. */
  readonly waiting: number;
  readonly history: readonly RoundMetrics[];
  readonly isEnded: boolean;
}

export interface WorkerView extends WorkerStatus {
  /** When it began its current activity, in milliseconds of the reporter's clock. */
  readonly since: number;
}

export const emptyView: RunView = {
  run: undefined,
  wait: "starting",
  workers: new Map(),
  round: 0,
  selected: 0,
  waiting: 0,
  history: [],
  isEnded: false,
};

export function advance(view: RunView, event: NewEvent, now: number): RunView {
  switch (event.type) {
    case "run-start":
      return { ...view, run: event, history: event.resumed?.metrics ?? [] };
    case "phase-start":
      return { ...view, wait: event.phase };
    case "worker-status": {
      const workers = new Map([...view.workers, [event.workerId, { ...event, since: sinceWhen(view, event, now) }] as const]);
      return { ...view, workers, wait: view.wait.startsWith(START) ? nameStart(workers) : view.wait };
    }
    case "round-start":
      return nameFits({ ...view, round: event.round, selected: event.clients.length, waiting: event.clients.length });
    case "client-fit":
      return nameFits({ ...view, waiting: view.waiting - 1 });
    case "client-failure":
      return event.willRetry ? view : nameFits({ ...view, waiting: view.waiting - 1 });
    case "evaluation-start":
      return isPast(view, event) ? view : { ...view, round: event.round, wait: `${nameRound(view, event.round)}: evaluating all tiers` };
    case "round-end": {
      const known = { ...view, history: [...view.history, event.metrics] };
      return isPast(view, event) ? known : { ...known, wait: `${nameRound(view, event.round)}: done` };
    }
    case "run-end":
      return { ...view, wait: "done", isEnded: true };
    case "run-failed":
      return { ...view, wait: event.kind === "interrupted" ? "interrupted" : "failed", isEnded: true };
    case "early-stop":
    case "tracker-status":
    case "folder-copied":
    case "worker-ready":
    case "data-ready":
    case "adapter-ready":
    case "client-set-aside":
    case "worker-given-up":
      return view;
  }
}

/** A round may be evaluated while the clients of the next one are already training. */
function isPast(view: RunView, event: { readonly round: number }): boolean {
  return event.round < view.round;
}

/** Whether a resumed run had all its rounds and their metrics. */
export function wasComplete({ run, history }: RunView): boolean {
  if (!run?.resumed) return false;
  const { after, stopped, metrics } = run.resumed;
  return after === (stopped?.round ?? run.rounds) && metrics.length === history.length;
}

/** `round 3 of 8`. */
export function nameRound({ run }: RunView, round: number): string {
  if (round === 0) return "before training";
  return run ? `round ${round} of ${run.rounds}` : `round ${round}`;
}

const START = "start workers";

/** `start workers: waiting for 3 of 16`. */
function nameStart(workers: RunView["workers"]): string {
  const all = [...workers.values()].filter(({ state }) => state !== "failed" && state !== "stopped");
  const starting = all.filter(({ state }) => state === "starting").length;
  return starting === 0 ? START : `${START}: waiting for ${starting} of ${all.length}`;
}

function nameFits(view: RunView): RunView {
  const { waiting, selected } = view;
  const what = waiting > 0 ? `waiting for ${waiting} of ${selected} clients` : "all clients done";
  return { ...view, wait: `${nameRound(view, view.round)}: ${what}` };
}

function sinceWhen({ workers }: RunView, status: WorkerStatus, now: number): number {
  const before = workers.get(status.workerId);
  return before && before.taskId === status.taskId && before.state === status.state ? before.since : now;
}
