import type { RoundMetrics, RunEvent } from "../../server/events.ts";
import type { WorkerStatus } from "../../workers/task.ts";

/** What is known of a run at one moment, put together from its events. */
export interface RunView {
  readonly run: Extract<RunEvent, { type: "run-start" }> | undefined;
  /** What is being waited for, as a person would say it. */
  readonly wait: string;
  readonly workers: ReadonlyMap<string, WorkerStatus>;
  /** Server round under way. */
  readonly round: number;
  readonly selected: number;
  readonly fitted: number;
  readonly history: readonly RoundMetrics[];
  readonly isEnded: boolean;
}

export const emptyView: RunView = {
  run: undefined,
  wait: "starting",
  workers: new Map(),
  round: 0,
  selected: 0,
  fitted: 0,
  history: [],
  isEnded: false,
};

export function advance(view: RunView, event: RunEvent): RunView {
  switch (event.type) {
    case "run-start":
      return { ...view, run: event, history: event.resumed?.metrics ?? [] };
    case "phase-start":
      return { ...view, wait: event.phase };
    case "worker-status":
      // Workers that stop after the end are no news.
      return view.isEnded ? view : { ...view, workers: new Map([...view.workers, [event.workerId, event]]) };
    case "round-start":
      return nameFits({ ...view, round: event.round, selected: event.clients.length, fitted: 0 });
    case "client-fit":
      return nameFits({ ...view, fitted: view.fitted + 1 });
    case "evaluation-start":
      return isPast(view, event) ? view : { ...view, round: event.round, wait: `${nameRound(view, event.round)}: evaluating every tier` };
    case "round-end": {
      const known = { ...view, history: [...view.history, event.metrics] };
      return isPast(view, event) ? known : { ...known, wait: `${nameRound(view, event.round)}: done` };
    }
    case "run-end":
      return { ...view, wait: "done", isEnded: true };
    case "worker-ready":
    case "data-ready":
    case "client-failure":
      return view;
  }
}

/** A round is evaluated while the clients of the next one train already. */
function isPast(view: RunView, event: { readonly round: number }): boolean {
  return event.round < view.round;
}

/** `round 3 of 8`. */
export function nameRound({ run }: RunView, round: number): string {
  if (round === 0) return "before training";
  return run ? `round ${round} of ${run.rounds}` : `round ${round}`;
}

function nameFits(view: RunView): RunView {
  return { ...view, wait: `${nameRound(view, view.round)}: ${view.fitted} of ${view.selected} clients have reported` };
}
