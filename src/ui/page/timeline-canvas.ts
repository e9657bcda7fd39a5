import type { Span, TimelineData } from "../messages.ts";
import { resolveColor } from "./colors.ts";
import { axisLabel, timeTicks, type Window } from "./timeline-axis.ts";
import { COLORS } from "./timeline-words.ts";

/* One row per worker, drawn on a canvas, since there may be thousands of fits. */

const ROW = 22;
const BAR = 14;
const LEFT = 64;
/** Below the rows: rounds, times, and what the times are. */
const [ROUNDS, TIMES, LABEL] = [18, 20, 16];
const AXIS = ROUNDS + TIMES + LABEL;

export function spansWithin({ spans }: TimelineData, { from, to }: Window): readonly Span[] {
  return spans.filter((span) => span.from <= to && (span.to ?? Infinity) >= from);
}

export function paint(canvas: HTMLCanvasElement, data: TimelineData, window: Window): void {
  const { from, to } = window;
  const width = canvas.parentElement?.clientWidth ?? 0;
  const height = Math.max(1, data.workers.length) * ROW + AXIS;
  const ratio = devicePixelRatio;
  const context = canvas.getContext("2d");
  if (!context || width === 0) return;
  if (canvas.width !== width * ratio || canvas.height !== height * ratio) {
    [canvas.width, canvas.height] = [width * ratio, height * ratio];
    canvas.style.height = `${height}px`;
  }
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = '12px system-ui, "DejaVu Sans", sans-serif';
  context.textBaseline = "middle";
  const scale = (width - LEFT - 4) / (to - from);
  const x = (at: number) => LEFT + (Math.min(Math.max(at, from), to) - from) * scale;
  const axes = { ...window, width, height, x };
  paintRounds(context, data, axes);
  paintTimes(context, axes);
  for (const [index, worker] of data.workers.entries()) {
    const middle = index * ROW + ROW / 2;
    context.fillStyle = resolveColor("var(--ink)");
    context.fillText(worker.length > 9 ? `${worker.slice(0, 8)}…` : worker, 0, middle);
    context.fillStyle = resolveColor("var(--rule)");
    context.fillRect(LEFT, middle - 0.5, width - LEFT - 4, 1);
  }
  for (const span of spansWithin(data, window)) {
    const [left, right] = [x(span.from), x(span.to ?? data.now)];
    context.fillStyle = resolveColor(COLORS[span.outcome]);
    const top = span.worker * ROW + (ROW - BAR) / 2;
    const gap = right - left > 3 ? 1 : 0;
    context.fillRect(left, top, Math.max(1, right - left - gap), BAR);
    if (span.attempt > 1) {
      context.fillStyle = resolveColor("var(--warn)");
      context.fillRect(left, top, Math.max(1, Math.min(3, right - left)), BAR);
    }
    paintName(context, span, left, right, top + BAR / 2);
  }
}

/** Where it fits. */
function paintName(context: CanvasRenderingContext2D, { what, isFit }: Span, left: number, right: number, middle: number): void {
  if (right - left < 22) return;
  const name = what.slice(0, 24);
  if (context.measureText(name).width > right - left - 7) return;
  context.fillStyle = resolveColor(isFit ? "var(--on-bar)" : "var(--ink)");
  context.fillText(name, left + 3, middle);
}

/** Pixels between two lines of the axis. */
const CLOSEST = 8;

interface Axes extends Window {
  readonly width: number;
  readonly height: number;
  x(at: number): number;
}

/** When rounds began, and when the run was resumed. */
function paintRounds(context: CanvasRenderingContext2D, data: TimelineData, { from, to, height, x }: Axes): void {
  const [ink, rule] = [resolveColor("var(--muted)"), resolveColor("var(--rule)")];
  let free = LEFT - 1;
  let last = 0;
  for (const { round, at } of data.rounds) {
    if (at < from || at > to) continue;
    const left = x(at);
    const name = `round ${round}`;
    context.fillStyle = rule;
    if (left - last >= CLOSEST) {
      context.fillRect(left, 0, 1, height - AXIS + 4);
      last = left;
    }
    if (left < free || left + context.measureText(name).width > x(to)) continue;
    context.fillStyle = ink;
    context.fillText(name, left, height - AXIS + ROUNDS / 2 + 2);
    free = left + context.measureText(name).width + 14;
  }
  context.fillStyle = resolveColor("var(--accent)");
  for (const at of data.resumes) if (at >= from && at <= to) context.fillRect(x(at) - 1, 0, 2, height - AXIS);
}

/** Pixels between two ticks, at least. */
const TICK = 70;

/** The time axis: its ticks, and since when they count. */
function paintTimes(context: CanvasRenderingContext2D, { from, to, origin, since, width, height, x }: Axes): void {
  const [ink, rule] = [resolveColor("var(--muted)"), resolveColor("var(--rule)")];
  const top = height - TIMES - LABEL;
  context.fillStyle = rule;
  context.fillRect(LEFT, top, width - LEFT - 4, 1);
  context.textAlign = "center";
  for (const { at, text } of timeTicks(from, to, { most: Math.floor((width - LEFT) / TICK), origin })) {
    const left = x(at);
    context.fillStyle = rule;
    context.fillRect(left, top, 1, 4);
    const half = context.measureText(text).width / 2;
    context.fillStyle = ink;
    context.fillText(text, Math.min(left, width - half - 1), top + TIMES / 2 + 3);
  }
  context.fillStyle = ink;
  context.fillText(axisLabel(since), LEFT + (width - LEFT) / 2, height - LABEL / 2);
  context.textAlign = "left";
}

/** The task that is drawn at a place. */
export function spanAt(
  data: TimelineData,
  width: number,
  { x, y, from, to }: { readonly x: number; readonly y: number; readonly from: number; readonly to: number },
): Span | undefined {
  const worker = Math.floor(y / ROW);
  if (x < LEFT || worker < 0 || worker >= data.workers.length) return undefined;
  const scale = (to - from) / (width - LEFT - 4);
  const [at, near] = [from + (x - LEFT) * scale, 2 * scale];
  return data.spans.findLast((span) => span.worker === worker && span.from - near <= at && (span.to ?? data.now) + near >= at);
}
