import { describeAxes, drawLegend, figuresTable } from "./chart-legend.ts";
import { alignedData, type ChartData, type ChartOptions, plotOptions } from "./chart-options.ts";
import { onSchemeChange } from "./colors.ts";
import { fill, h, setText } from "./dom.ts";
import uPlot from "./vendor/uplot.js";

/** A chart with a legend and a table of the same figures. */
export class LineChart {
  readonly root: HTMLElement;
  readonly #options: ChartOptions;
  readonly #canvas: HTMLElement;
  readonly #legend = h("ul", { class: "legend" });
  readonly #note = h("figcaption");
  readonly #figures = h("div", { class: "figures-table", hidden: true });
  readonly #sizes: ResizeObserver;
  readonly #forget: () => void;
  #data: ChartData = { x: [], lines: [] };
  #plot: uPlot | undefined;
  /** Names and colours of the lines that are drawn. */
  #shape = "";

  constructor(options: ChartOptions) {
    const { title, controls = [] } = options;
    this.#options = options;
    this.#canvas = h("div", { class: "canvas", role: "img", "aria-label": options.label });
    const toggle = tableToggle(title, () => this.#showTable(toggle));
    const head = h("div", { class: "head" }, h("h2", {}, title), h("div", { class: "controls" }, ...controls, toggle));
    this.root = h("figure", { class: "panel" }, head, this.#legend, this.#canvas, this.#figures, this.#note);
    this.#sizes = new ResizeObserver(() => this.#resize());
    this.#sizes.observe(this.#canvas);
    this.#forget = onSchemeChange(() => {
      this.#shape = "";
      this.#draw();
    });
  }

  update(data: ChartData, note?: string): void {
    this.#data = data;
    if (note !== undefined) setText(this.#note, note);
    this.#draw();
  }

  close(): void {
    this.#forget();
    this.#sizes.disconnect();
    this.#plot?.destroy();
  }

  #showTable(toggle: HTMLElement): void {
    const isTable = this.#figures.hidden;
    toggle.setAttribute("aria-pressed", String(isTable));
    this.#canvas.hidden = isTable;
    this.#figures.hidden = !isTable;
    this.#draw();
  }

  #draw(): void {
    const { x, lines } = this.#data;
    this.#drawLegend(x.length - 1);
    this.#canvas.setAttribute("aria-label", `${this.#options.label} ${describeAxes(this.#options, this.#data)}.`);
    if (!this.#figures.hidden) return fill(this.#figures, figuresTable(this.#options, this.#data));
    if (this.#canvas.clientWidth === 0) return;
    if (x.length === 0) return this.#clear(h("p", { class: "nothing" }, "No values yet."));
    const shape = JSON.stringify(lines.map(({ name, color, interval, isFaint }) => [name, color, interval !== undefined, isFaint]));
    if (this.#plot && shape === this.#shape) return this.#plot.setData(alignedData(this.#data));
    this.#clear();
    this.#shape = shape;
    const drawing = {
      ...this.#size(),
      point: (index: number | null | undefined) => this.#drawLegend(index ?? this.#data.x.length - 1),
      current: () => this.#data,
    };
    this.#plot = new uPlot(plotOptions(this.#options, this.#data, drawing), alignedData(this.#data), this.#canvas);
  }

  #clear(...children: readonly HTMLElement[]): void {
    this.#plot?.destroy();
    this.#plot = undefined;
    fill(this.#canvas, ...children);
  }

  #drawLegend(index: number): void {
    drawLegend(this.#legend, this.#data, this.#options, index);
  }

  #size(): { readonly width: number; readonly height: number } {
    return { width: Math.floor(this.#canvas.clientWidth), height: this.#options.height ?? 260 };
  }

  #resize(): void {
    if (this.#canvas.clientWidth === 0) return;
    if (this.#plot) this.#plot.setSize(this.#size());
    else this.#draw();
  }
}

/** A button that is pressed while a chart's figures are shown as a table. */
export function tableToggle(title: string, click: () => void): HTMLButtonElement {
  return h(
    "button",
    { type: "button", class: "quiet", "aria-pressed": "false", "aria-label": `${title}: show as a table`, click },
    "Table",
  );
}
