import { formatSeconds } from "../../report/format.ts";
import { qualityTable } from "../../report/tables.ts";
import { renderTextTable, USUAL_WIDTH } from "../../report/text-table.ts";
import { visibleIn } from "../../report/visible.ts";
import type { NewEvent } from "../../server/events.ts";
import {
  describeCopy,
  describeData,
  describeEarlyStop,
  describeFailure,
  describeFits,
  describePaths,
  describeQuality,
  describeSetAside,
  describeStart,
  describeStartingAdapter,
  describeTracker,
  describeWorkers,
  type EventOf,
  describeReady,
} from "../../report/phrases.ts";
import type { Reporter, TimedReporterOptions } from "./reporter.ts";
import { advance, emptyView, nameRound, type RunView, wasComplete } from "../../report/run-view.ts";

/** Shortest time between lines of progress. */
const PROGRESS_MS = 10_000;
/** Columns of the time. */
const INDENT = 14;

/** For logs and pipes: a line per event, with the time since the start. */
export function plainReporter({ stream, now = () => performance.now() }: TimedReporterOptions): Reporter {
  const start = now();
  let view = emptyView;
  let lastLine = start;
  const say = (text: string) => {
    lastLine = now();
    stream.write(`${formatSeconds((lastLine - start) / 1000).padStart(INDENT - 2)}  ${text.replaceAll("\n", `\n${" ".repeat(INDENT)}`)}\n`);
  };
  const sayProgress = () => {
    if (!view.isEnded && now() - lastLine >= PROGRESS_MS) say(describeProgress(view, now()));
  };
  // A download may emit no event for minutes.
  const ticking = setInterval(sayProgress, PROGRESS_MS).unref();
  return {
    event(untrusted) {
      const event = visibleIn(untrusted);
      view = advance(view, event, now());
      for (const line of linesOf(event, view)) say(line);
      if (event.type === "run-end" && !wasComplete(view)) stream.write(`${describeResult(event, view, stream.columns || USUAL_WIDTH)}\n`);
      if (event.type === "worker-status") sayProgress();
    },
    close: () => clearInterval(ticking),
  };
}

function describeProgress({ wait, workers }: RunView, now: number): string {
  return `${wait}: ${describeWorkers([...workers.values()], now)}`;
}

function describeResult(event: EventOf<"run-end">, { run, history }: RunView, width: number): string {
  return [renderTextTable(qualityTable(run?.tiers ?? [], history), width), ...describePaths(event)].join("\n");
}

function linesOf(event: NewEvent, view: RunView): readonly string[] {
  switch (event.type) {
    case "phase-start":
      return [`${event.phase} …`];
    case "worker-ready":
      return [describeReady(event)];
    case "data-ready":
      return [describeData(event)];
    case "tracker-status":
      return [describeTracker(event)];
    case "adapter-ready":
      return [describeStartingAdapter(event)];
    case "folder-copied":
      return [describeCopy(event)];
    case "run-start":
      return describeStart(event);
    case "round-start":
      return [`${nameRound(view, event.round)}: ${event.clients.length} clients train`];
    case "client-failure":
      return [`warning: ${describeFailure(event)}\n${event.error}`];
    case "client-set-aside":
    case "worker-given-up":
      return [`warning: ${describeSetAside(event)}\n${event.error}`];
    case "round-end": {
      const { round, metrics } = event;
      const isBest = event.best?.round === round;
      const parts = [
        ...(round > 0 ? [describeFits(metrics)] : []),
        ...(metrics.byTier.length > 0 ? [describeQuality(metrics)] : []),
        ...(isBest ? ["the best so far"] : []),
      ];
      return [`${nameRound(view, round)}: ${parts.join("; ")}`];
    }
    case "early-stop":
      return [describeEarlyStop(event, view.run?.rounds ?? event.round)];
    case "run-end":
      return wasComplete(view) ? [] : ["done"];
    case "worker-status":
    case "client-fit":
    case "evaluation-start":
    // The command reports the error.
    case "run-failed":
      return [];
  }
}
