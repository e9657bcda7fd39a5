import { createLogUpdate } from "log-update";
import { formatSeconds } from "../../report/format.ts";
import { qualityTable, roundsTable } from "../../report/tables.ts";
import { renderTextTable } from "../../report/text-table.ts";
import type { RunEvent } from "../../server/events.ts";
import { type Paint, paintFor } from "./paint.ts";
import {
  describeCopy,
  describeData,
  describeFailure,
  describePaths,
  describeSetAside,
  describeStart,
  describeStartingAdapter,
  describeWorker,
} from "./phrases.ts";
import type { Reporter, TimedReporterOptions } from "./reporter.ts";
import { advance, emptyView, type RunView, type WorkerView } from "./run-view.ts";

type RunEnd = Extract<RunEvent, { type: "run-end" }>;

/** What is kept in sight while a run goes on, so that it fits a screen. */
const WORKERS_SHOWN = 8;
const ROUNDS_SHOWN = 12;
const BAR_CELLS = 12;

/** Live in a terminal: the run, a line per worker, and the table of rounds as it grows. Warnings stay above it. */
export function terminalReporter({ stream, now = () => performance.now() }: TimedReporterOptions): Reporter {
  const start = now();
  const paint = paintFor(stream);
  const display = createLogUpdate(stream);
  const stay = (line: string) => display.persist(line);
  let view = emptyView;
  let isClosed = false;
  const render = () => display(renderLive(view, now(), start, paint));
  // So that a long wait is seen to go on.
  const ticking = setInterval(render, 1000).unref();
  const close = () => {
    clearInterval(ticking);
    if (!isClosed) display.done();
    isClosed = true;
  };
  return {
    event(event) {
      if (isClosed) return;
      view = advance(view, event, now());
      if (event.type === "data-ready") stay(paint("dim", describeData(event)));
      if (event.type === "adapter-ready") stay(paint("dim", describeStartingAdapter(event)));
      if (event.type === "client-failure") stay(paint("yellow", `warning: ${describeFailure(event)}: ${event.error.split("\n")[0]}`));
      if (event.type === "client-set-aside" || event.type === "worker-given-up")
        stay(paint("yellow", `warning: ${describeSetAside(event)}`));
      if (event.type === "folder-copied") stay(paint("yellow", describeCopy(event)));
      if (event.type === "run-start" && event.resumed)
        for (const line of describeStart(event)) stay(paint(line.startsWith("warning:") ? "yellow" : "dim", line));
      if (event.type !== "run-end") {
        render();
        return;
      }
      // Written plainly, since a live frame is cut to the height of the screen.
      display.clear();
      close();
      stream.write(`${renderEnd(view, event, paint)}\n`);
    },
    close,
  };
}

function renderLive(view: RunView, now: number, start: number, paint: Paint): string {
  const { run, wait, workers, history } = view;
  const shown = [...workers.values()].slice(0, WORKERS_SHOWN);
  const width = Math.max(0, ...shown.map(({ workerId }) => workerId.length));
  const lines = [
    `${paint("bold", run ? `prelort ${run.name}` : "prelort")}  ${paint("cyan", wait)}  ${paint("dim", formatSeconds((now - start) / 1000))}`,
    ...shown.map((status) => `  ${status.workerId.padEnd(width)}  ${renderWorker(status, now, paint)}`),
    ...(workers.size > shown.length ? [paint("dim", `  and ${workers.size - shown.length} more workers`)] : []),
  ];
  if (run && history.length > 0) lines.push("", renderTextTable(roundsTable(run.tiers, history.slice(-ROUNDS_SHOWN))));
  return lines.join("\n");
}

function renderWorker(status: WorkerView, now: number, paint: Paint): string {
  const { state, step, steps, since } = status;
  const filled = steps > 0 ? Math.round((BAR_CELLS * Math.min(step, steps)) / steps) : 0;
  const bar = steps > 0 ? `${paint("green", "█".repeat(filled))}${paint("dim", "░".repeat(BAR_CELLS - filled))}` : " ".repeat(BAR_CELLS);
  const text = state === "busy" ? `${describeWorker(status)}, ${formatSeconds((now - since) / 1000)}` : describeWorker(status);
  return `${bar}  ${state === "failed" ? paint("yellow", text) : state === "busy" ? text : paint("dim", text)}`;
}

/** What stays on the screen: every round, the gain at each tier, where everything is. */
function renderEnd({ run, history }: RunView, end: RunEnd, paint: Paint): string {
  const tiers = run?.tiers ?? [];
  const tables = [roundsTable(tiers, history), qualityTable(tiers, history)].map(renderTextTable);
  return [paint("bold", `prelort ${run?.name ?? ""}`), "", ...tables, ...describePaths(end)].join("\n");
}
