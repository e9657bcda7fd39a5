import { formatSeconds, plural } from "../../report/format.ts";
import type { Outcome, Span, TimelineData } from "../messages.ts";
import { tierColor } from "./colors.ts";
import { table } from "./dom.ts";
import { formatClock } from "./timeline-axis.ts";

export const WORDS: Readonly<Record<Outcome, string>> = {
  running: "training",
  trained: "trained",
  failed: "failed",
  retried: "failed, tried again",
  stopped: "not counted",
  other: "other work",
};
export const COLORS: Readonly<Record<Outcome, string>> = {
  running: "var(--accent)",
  trained: tierColor(1, 3),
  failed: "var(--bad)",
  retried: "var(--warn)",
  stopped: "var(--muted)",
  other: "var(--rule)",
};

export function describeSpan({ workers, now }: TimelineData, { worker, what, round, attempt, from, to, outcome }: Span): string {
  const parts = [
    `${what} on ${workers[worker]}`,
    ...(round === null ? [] : [`round ${round}`]),
    ...(attempt > 1 ? [`attempt ${attempt}`] : []),
    WORDS[outcome],
    formatSeconds(((to ?? now) - from) / 1000),
    `from ${formatClock(from, 1)} after the run's start`,
  ];
  return parts.join(", ");
}

/** `71 fits in 1.3 s: 64 trained, 7 failed, tried again.` */
export function summarise(data: TimelineData, shown: readonly Span[], milliseconds: number): string {
  const fits = shown.filter(({ isFit }) => isFit);
  if (data.workers.length === 0) return "The run's record has no events of its workers.";
  const counts = (Object.keys(WORDS) as Outcome[]).flatMap((outcome) => {
    const count = fits.filter((span) => span.outcome === outcome).length;
    return count === 0 ? [] : [`${count} ${WORDS[outcome]}`];
  });
  const left = data.dropped > 0 ? ` The first ${plural(data.dropped, "task")} of the run are not shown.` : "";
  return `${plural(fits.length, "fit")} in ${formatSeconds(milliseconds / 1000)}${counts.length > 0 ? `: ${counts.join(", ")}` : ""}.${left}`;
}

const MAX_ROWS = 300;

export function spansTable(data: TimelineData, all: readonly Span[]): HTMLElement {
  const shown = all.slice(-MAX_ROWS).toReversed();
  const rows = shown.map(({ worker, what, round, attempt, from: began, to: ended, outcome }) => [
    what,
    data.workers[worker],
    round ?? "—",
    attempt,
    WORDS[outcome],
    formatClock(began, 1),
    formatSeconds(((ended ?? data.now) - began) / 1000),
  ]);
  return table(
    `Tasks of the workers, the last ${MAX_ROWS} at most`,
    ["what", "worker", "round", "attempt", "outcome", "after the run's start (min:s)", "took"],
    rows,
  );
}
