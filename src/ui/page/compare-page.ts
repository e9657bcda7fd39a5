import { plural } from "../../report/format.ts";
import type { ListChange, ListPage, MeasureName, NamedConfig, OverlayRun } from "../messages.ts";
import { getJson, listen, type Listening } from "./api.ts";
import { configTable } from "./config-table.ts";
import { choice, fill, h } from "./dom.ts";
import { LineChart } from "./line-chart.ts";
import { aligned, linesOf } from "./overlay-lines.ts";
import type { View } from "./view.ts";
import { better, formatQuality, runAddress } from "./words.ts";

/** Runs that one request asks for. */
const BATCH = 10;
/** Rounds of a run: enough for a line of a screen's width, less if there are many runs. */
const pointsFor = (runs: number) => Math.max(60, Math.min(400, Math.floor(6000 / runs)));
const MAX_CONFIGS = 8;
/** Shortest time between two drawings while runs are read. */
const REDRAW_MS = 150;

/** Several runs' quality over rounds in one chart, and what differs in their configs. */
export class ComparePage implements View {
  readonly #names: readonly string[];
  readonly #runs = new Map<string, OverlayRun>();
  readonly #pickers = h("div", { class: "controls" });
  readonly #configs = h("div");
  readonly #notes = h("div");
  readonly #chart: LineChart;
  #tier = "best";
  #measure: MeasureName = "loss";
  #isClosed = false;
  /** When it was drawn last. */
  #drawn = -Infinity;
  #listening: Listening | undefined;

  constructor(main: HTMLElement, names: readonly string[]) {
    this.#names = names;
    this.#chart = new LineChart({
      title: `Quality of ${plural(names.length, "run")}`,
      label: "Line chart: quality over the server rounds, one line per run. The table has the same figures.",
      xName: "round",
      yName: () => this.#measure,
      format: (value) => formatQuality(this.#measure, value),
      spansGaps: true,
      controls: [this.#pickers],
      height: 420,
    });
    document.title = "Compare · prelort";
    fill(
      main,
      h("div", { class: "toolbar" }, h("h1", {}, "Compare"), h("a", { class: "button quiet", href: "#/" }, "All runs")),
      names.length === 0 ? h("p", { class: "quiet-text" }, "Select runs in the list first.") : this.#chart.root,
      this.#notes,
      names.length > 1 ? h("section", { class: "panel wide" }, h("h2", {}, "What differs in their configs"), this.#configs) : null,
    );
    void this.#open();
  }

  close(): void {
    this.#isClosed = true;
    this.#listening?.close();
    this.#chart.close();
  }

  async #open(): Promise<void> {
    try {
      const { version } = await getJson<ListPage>("/api/runs");
      await this.#read(this.#names);
      if (this.#isClosed) return;
      const on = { message: (data: unknown) => void this.#readChanged(data as ListChange) };
      this.#listening = listen("/api/runs/events", { from: version, on });
      if (this.#names.length > 1) await this.#showConfigs();
    } catch (error) {
      if (!this.#isClosed) fill(this.#notes, h("p", { class: "problem", role: "alert" }, (error as Error).message));
    }
  }

  async #readChanged({ changed }: ListChange): Promise<void> {
    const names = changed.map(({ name }) => name).filter((name) => this.#names.includes(name));
    // A run that cannot be read now is read when it changes again.
    await this.#read(names).catch(() => {});
  }

  async #read(names: readonly string[]): Promise<void> {
    const points = String(pointsFor(this.#names.length));
    const ask = (at: number) => {
      const batch = names.slice(at, at + BATCH).map((name) => ["name", name] as const);
      const answer = getJson<OverlayRun[]>("/api/overlay", [...batch, ["points", points]]);
      // Awaited below, or of no use once the page is closed.
      answer.catch(() => {});
      return answer;
    };
    let answer = ask(0);
    for (let at = 0; at < names.length; at += BATCH) {
      const found = await answer;
      if (this.#isClosed) return;
      // The server reads the next ones while these are drawn.
      const isLast = at + BATCH >= names.length;
      if (!isLast) answer = ask(at + BATCH);
      for (const run of found) this.#runs.set(run.name, run);
      if (isLast || performance.now() - this.#drawn > REDRAW_MS) this.#draw();
    }
  }

  #draw(): void {
    if (this.#isClosed) return;
    this.#drawn = performance.now();
    const all = this.#names.flatMap((name) => this.#runs.get(name) ?? []);
    const evaluated = all.filter(({ rounds }) => rounds.length > 0);
    const measures = [...new Set(evaluated.map(({ measure }) => measure))];
    if (!measures.includes(this.#measure)) this.#measure = measures[0] ?? "loss";
    const shown = evaluated.filter(({ measure }) => measure === this.#measure);
    this.#offer(
      [...new Set(shown.flatMap(({ tiers }) => tiers))].toSorted((a, b) => a - b),
      measures,
    );
    const lines = shown.flatMap((run) => linesOf(run, this.#tier, this.#names.indexOf(run.name)));
    this.#chart.update(aligned(lines), `${this.#measure}, ${better(this.#measure)} is better.`);
    const others = all.filter(({ measure, problem }) => problem !== null || measure !== this.#measure);
    const notes = others.map(({ name, problem, measure }) =>
      h("li", {}, h("a", { href: runAddress(name) }, name), `: ${problem ?? `measured by ${measure}`}`),
    );
    fill(this.#notes, notes.length > 0 ? h("ul", { class: "quiet-text" }, ...notes) : null);
  }

  /** The tiers and, if runs differ in it, the measures to choose from. */
  #offer(tiers: readonly number[], measures: readonly MeasureName[]): void {
    const offered = JSON.stringify([tiers, measures]);
    if (this.#pickers.dataset["offered"] === offered) return;
    this.#pickers.dataset["offered"] = offered;
    const options = [
      { value: "best", text: "best tier" },
      { value: "worst", text: "worst tier" },
      ...tiers.map((r) => ({ value: String(r), text: `rank ${r}` })),
      { value: "all", text: "all tiers" },
    ];
    const byTier = choice("Tier", options, this.#tier, (value) => {
      this.#tier = value;
      this.#draw();
    });
    const byMeasure = choice(
      "Measure",
      measures.map((value) => ({ value, text: value })),
      this.#measure,
      (value) => {
        this.#measure = value as MeasureName;
        this.#draw();
      },
    );
    fill(this.#pickers, measures.length > 1 ? byMeasure : null, byTier);
  }

  async #showConfigs(): Promise<void> {
    const names = this.#names.slice(0, MAX_CONFIGS);
    const found = await Promise.all(names.map((name) => getJson<NamedConfig>("/api/run/config", [["name", name]])));
    const note = this.#names.length > names.length ? h("p", { class: "quiet-text" }, `Of the first ${MAX_CONFIGS} runs.`) : null;
    fill(this.#configs, configTable(found, true), note);
  }
}
