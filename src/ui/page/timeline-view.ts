import { plural } from "../../report/format.ts";
import type { Outcome, TimelineData } from "../messages.ts";
import { onSchemeChange } from "./colors.ts";
import { choice, fill, h, setText } from "./dom.ts";
import { tableToggle } from "./line-chart.ts";
import { axisLabel, formatClock, type Window, windowOf } from "./timeline-axis.ts";
import { paint, spanAt, spansWithin } from "./timeline-canvas.ts";
import { COLORS, describeSpan, spansTable, summarise, WORDS } from "./timeline-words.ts";

const TITLE = "Clients on workers";
const LABEL = "Timeline: when each worker trained which client. The table lists the same.";
const ROUNDS = ["1", "3", "10", "30", "100", "all"];

/** Which worker did what when, of the last rounds or of all. */
export class TimelineView {
  readonly root: HTMLElement;
  readonly #canvas = h("canvas", { role: "img", "aria-label": LABEL });
  readonly #area = h("div", { class: "timeline" }, this.#canvas);
  readonly #figures = h("div", { class: "figures-table", hidden: true });
  readonly #tip = h("p", { class: "tip" });
  readonly #sizes = new ResizeObserver(() => this.#schedule());
  readonly #forget = onSchemeChange(() => this.#schedule());
  #data: TimelineData | undefined;
  #rounds = "10";
  #frame = 0;

  constructor() {
    const options = ROUNDS.map((value) => ({ value, text: value === "all" ? "all rounds" : `last ${plural(Number(value), "round")}` }));
    const picker = choice("Show", options, this.#rounds, (value) => {
      this.#rounds = value;
      this.#draw();
    });
    const toggle = tableToggle(TITLE, () => this.#showTable(toggle));
    const head = h("div", { class: "head" }, h("h2", {}, TITLE), h("div", { class: "controls" }, picker, toggle));
    this.root = h("figure", { class: "panel wide" }, head, legend(), this.#area, this.#figures, this.#tip);
    this.#canvas.addEventListener("pointermove", ({ offsetX, offsetY }) => this.#describe({ x: offsetX, y: offsetY }));
    this.#canvas.addEventListener("pointerleave", () => this.#describe());
    this.#sizes.observe(this.#area);
  }

  update(data: TimelineData): void {
    this.#data = data;
    this.#schedule();
  }

  close(): void {
    this.#forget();
    this.#sizes.disconnect();
    cancelAnimationFrame(this.#frame);
  }

  #schedule(): void {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  #showTable(toggle: HTMLElement): void {
    const isTable = this.#figures.hidden;
    toggle.setAttribute("aria-pressed", String(isTable));
    this.#area.hidden = isTable;
    this.#figures.hidden = !isTable;
    this.#draw();
  }

  #draw(): void {
    if (!this.#data) return;
    const window = windowOf(this.#data, this.#rounds);
    if (this.#figures.hidden) paint(this.#canvas, this.#data, window);
    else fill(this.#figures, spansTable(this.#data, spansWithin(this.#data, window)));
    this.#canvas.setAttribute("aria-label", `${LABEL} ${describeAxis(window)}.`);
    this.#describe();
  }

  /** What is pointed at, or all that is drawn. */
  #describe(at?: { readonly x: number; readonly y: number }): void {
    const data = this.#data;
    if (!data) return;
    const window = windowOf(data, this.#rounds);
    const span = at && spanAt(data, this.#canvas.clientWidth, { ...at, ...window });
    setText(this.#tip, span ? describeSpan(data, span) : summarise(data, spansWithin(data, window), window.to - window.from));
  }
}

/** `x axis: time since the run's start (minutes:seconds), 0:00 to 3:04`. */
function describeAxis({ from, to, origin, since }: Window): string {
  return `x axis: ${axisLabel(since)}, ${formatClock(from - origin)} to ${formatClock(to - origin)}; y axis: workers`;
}

function legend(): HTMLElement {
  const items = (Object.keys(WORDS) as Outcome[]).map((outcome) => {
    const swatch = h("i", { class: "block", "aria-hidden": "true" });
    swatch.style.color = COLORS[outcome];
    return h("li", {}, swatch, h("span", {}, WORDS[outcome]));
  });
  return h("ul", { class: "legend" }, ...items, h("li", {}, h("i", { class: "waiting", "aria-hidden": "true" }), h("span", {}, "waiting")));
}
