import { formatSeconds } from "../../report/format.ts";
import { qualityTable, roundsTable } from "../../report/tables.ts";
import { renderTextTable, USUAL_WIDTH } from "../../report/text-table.ts";
import { visibleIn } from "../../report/visible.ts";
import type { NewEvent } from "../../server/events.ts";
import { liveDisplay } from "./live-display.ts";
import { type Paint, paintFor } from "./paint.ts";
import {
  describeCopy,
  describeData,
  describeEarlyStop,
  describeFailure,
  describePaths,
  describeSetAside,
  describeStart,
  describeStartingAdapter,
  describeTracker,
  describeWorker,
} from "../../report/phrases.ts";
import type { Reporter, TimedReporterOptions } from "./reporter.ts";
import { advance, emptyView, type RunView, wasComplete, type WorkerView } from "../../report/run-view.ts";

type RunEnd = Extract<NewEvent, { type: "run-end" }>;

/** Shown while a run is under way, if the screen has room. */
const WORKERS_SHOWN = 8;
const ROUNDS_SHOWN = 12;
const BAR_CELLS = 12;

export interface TerminalReporterOptions extends TimedReporterOptions {
  /** Another stream that may write to the same terminal. */
  readonly errors?: NodeJS.WriteStream;
}

/** A live display: the run, a line per worker, and the table of rounds so far. Warnings stay above it. */
export function terminalReporter({ stream, errors, now = () => performance.now() }: TerminalReporterOptions): Reporter {
  const start = now();
  const paint = paintFor(stream);
  const display = liveDisplay(stream, errors);
  let view = emptyView;
  let isClosed = false;
  const width = () => stream.columns || USUAL_WIDTH;
  const render = () => display.draw(frames(view, { now: now(), start, paint, width: width() }));
  // Advances the clock during a long wait, and adapts to a resized terminal.
  const ticking = setInterval(render, 1000).unref();
  const close = () => {
    clearInterval(ticking);
    display.close();
    isClosed = true;
  };
  return {
    event(untrusted) {
      if (isClosed) return;
      const event = visibleIn(untrusted);
      view = advance(view, event, now());
      for (const line of permanentLines(event, view, paint)) display.stay(line);
      if (event.type !== "run-end") {
        render();
        return;
      }
      // Not a live frame, which is cut to the height of the screen.
      display.clear();
      close();
      if (!wasComplete(view)) stream.write(`${renderEnd(view, event, paint, width())}\n`);
    },
    close,
  };
}

function permanentLines(event: NewEvent, { run }: RunView, paint: Paint): readonly string[] {
  switch (event.type) {
    case "data-ready":
      return [paint("dim", describeData(event))];
    case "tracker-status":
      return event.error === undefined ? [] : [paint("yellow", describeTracker(event))];
    case "adapter-ready":
      return [paint("dim", describeStartingAdapter(event))];
    case "client-failure":
      return [paint("yellow", `warning: ${describeFailure(event)}: ${event.error.split("\n")[0]}`)];
    case "client-set-aside":
    case "worker-given-up":
      return [paint("yellow", `warning: ${describeSetAside(event)}`)];
    case "run-start":
      return event.resumed ? describeStart(event).map((line) => paint(line.startsWith("warning:") ? "yellow" : "dim", line)) : [];
    case "folder-copied":
      return [paint("yellow", describeCopy(event))];
    case "early-stop":
      return [describeEarlyStop(event, run?.rounds ?? event.round)];
    case "phase-start":
    case "worker-ready":
    case "worker-status":
    case "round-start":
    case "client-fit":
    case "evaluation-start":
    case "round-end":
    case "run-end":
    // The command reports the error.
    case "run-failed":
      return [];
  }
}

interface Frame {
  readonly now: number;
  readonly start: number;
  readonly paint: Paint;
  readonly width: number;
}

/** From the largest to the smallest: first with fewer rounds, then without the table, then with fewer workers. */
function* frames(view: RunView, frame: Frame): Generator<string> {
  const rounds = Math.min(ROUNDS_SHOWN, view.history.length);
  for (let shown = rounds; shown >= 0; shown--) yield renderLive(view, frame, WORKERS_SHOWN, shown);
  for (let shown = Math.min(WORKERS_SHOWN, view.workers.size) - 1; shown >= 0; shown--) yield renderLive(view, frame, shown, 0);
}

function renderLive(view: RunView, { now, start, paint, width }: Frame, workersShown: number, roundsShown: number): string {
  const { run, wait, workers, history } = view;
  const shown = [...workers.values()].slice(0, workersShown);
  const widest = shown.reduce((most, { workerId }) => Math.max(most, workerId.length), 0);
  const hidden = workers.size - shown.length;
  const lines = [
    `${paint("bold", run ? `prelort ${run.name}` : "prelort")}  ${paint("cyan", wait)}  ${paint("dim", formatSeconds((now - start) / 1000))}`,
    ...shown.map((status) => `  ${status.workerId.padEnd(widest)}  ${renderWorker(status, now, paint)}`),
    ...(hidden > 0 ? [paint("dim", `  and ${hidden} more workers`)] : []),
  ];
  if (run && roundsShown > 0) lines.push("", renderTextTable(roundsTable(run.tiers, history.slice(-roundsShown)), width));
  return lines.join("\n");
}

function renderWorker(status: WorkerView, now: number, paint: Paint): string {
  const { state, step, steps, since } = status;
  const filled = steps > 0 ? Math.round((BAR_CELLS * Math.min(step, steps)) / steps) : 0;
  const bar = steps > 0 ? `${paint("green", "█".repeat(filled))}${paint("dim", "░".repeat(BAR_CELLS - filled))}` : " ".repeat(BAR_CELLS);
  const text = state === "busy" ? `${describeWorker(status)}, ${formatSeconds((now - since) / 1000)}` : describeWorker(status);
  return `${bar}  ${state === "failed" ? paint("yellow", text) : state === "busy" ? text : paint("dim", text)}`;
}

/** What stays on the screen: all rounds, the gain at each tier, and the paths. */
function renderEnd({ run, history }: RunView, end: RunEnd, paint: Paint, width: number): string {
  const tiers = run?.tiers ?? [];
  const tables = [roundsTable(tiers, history), qualityTable(tiers, history)].map((table) => renderTextTable(table, width));
  return [paint("bold", `prelort ${run?.name ?? ""}`), "", ...tables, ...describePaths(end)].join("\n");
}
