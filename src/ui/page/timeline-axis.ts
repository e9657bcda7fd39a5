import type { TimelineData } from "../messages.ts";

/* The time axis of the timeline: what it shows, and ticks at round times, written as on a clock. */

/** What is shown, in the run's own milliseconds. */
export interface Window {
  readonly from: number;
  readonly to: number;
  /** What the axis counts from. */
  readonly origin: number;
  /** The same in words. */
  readonly since: string;
}

/** The last rounds, or all of them. The time of a single round is counted from its start. */
export function windowOf({ rounds, now, spans, dropped }: TimelineData, shown: string): Window {
  const end = Math.max(now, 1);
  const first = dropped > 0 ? (spans[0]?.from ?? 0) : 0;
  const began = shown === "all" ? undefined : rounds.at(-Number(shown));
  const last = shown === "1" ? began : undefined;
  const since = last ? `round ${last.round} began` : "the run's start";
  return { from: Math.min(began?.at ?? first, end - 1), to: end, origin: last?.at ?? 0, since };
}

export function axisLabel(since: string): string {
  return `time since ${since} (minutes:seconds)`;
}

export interface Tick {
  /** In the run's own milliseconds. */
  readonly at: number;
  readonly text: string;
}

/** Seconds between two ticks to choose from. Below a second the decimals are written. */
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400];

/** At most `most` ticks from one time to another, counted from `origin`. */
export function timeTicks(from: number, to: number, { most, origin = 0 }: { readonly most: number; readonly origin?: number }): Tick[] {
  const least = (to - from) / 1000 / Math.max(1, most);
  const days = STEPS.at(-1) as number;
  const step = 1000 * (STEPS.find((seconds) => seconds >= least) ?? days * Math.ceil(least / days));
  const ticks: Tick[] = [];
  for (let count = Math.ceil((from - origin) / step); origin + count * step <= to; count++) {
    const elapsed = count * step;
    ticks.push({ at: origin + elapsed, text: formatClock(elapsed, step < 1000 ? 1 : 0) });
  }
  return ticks;
}

/** `1:03`, `1:02:03` from an hour on, `0:00.5` with decimals. */
export function formatClock(milliseconds: number, decimals = 0): string {
  const unit = 10 ** decimals;
  const whole = Math.floor((Math.max(0, milliseconds) * unit) / 1000 + 1e-6);
  const seconds = Math.floor(whole / unit);
  const fraction = decimals > 0 ? `.${String(whole % unit).padStart(decimals, "0")}` : "";
  const two = (value: number) => String(value).padStart(2, "0");
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return `${hours > 0 ? `${hours}:${two(minutes)}` : minutes}:${two(seconds % 60)}${fraction}`;
}
