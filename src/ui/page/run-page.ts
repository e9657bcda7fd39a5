import type { LiveEvent, ListChange, RoundRow, RunDetail, RunStatus, WorkerMemory } from "../messages.ts";
import { Timeline } from "../timeline.ts";
import { noteMemory } from "../worker-memory.ts";
import { getJson, listen, type Listening } from "./api.ts";
import { configSection } from "./config-section.ts";
import { fill, h } from "./dom.ts";
import { comparedRounds } from "../../report/sample-answers.ts";
import { failureList } from "./failures.ts";
import type { Figure } from "./figure.ts";
import { memorySection } from "./memory-section.ts";
import { qualityOverRank, qualityOverRounds } from "./quality-figures.ts";
import { bytes, contributors, energy, seconds, trainingLoss } from "./round-figures.ts";
import { runHead } from "./run-head.ts";
import { samplesSection } from "./samples-section.ts";
import { TimelineView } from "./timeline-view.ts";
import type { View } from "./view.ts";

/** Everything of one run, which goes on as the run does. */
export class RunPage implements View {
  readonly #main: HTMLElement;
  readonly #name: string;
  #shown: View | undefined;
  #waiting: Listening | undefined;
  #isClosed = false;

  constructor(main: HTMLElement, name: string) {
    [this.#main, this.#name] = [main, name];
    document.title = `${name} · prelort`;
    fill(main, h("p", { class: "quiet-text" }, "reading …"));
    void this.#open();
  }

  close(): void {
    this.#isClosed = true;
    this.#clear();
  }

  async #open(): Promise<void> {
    try {
      const detail = await getJson<RunDetail>("/api/run", [["name", this.#name]]);
      if (this.#isClosed) return;
      this.#clear();
      this.#shown = new ShownRun(this.#main, detail, () => void this.#open());
    } catch (error) {
      if (this.#isClosed) return;
      this.#clear();
      fill(
        this.#main,
        h("p", { class: "problem", role: "alert" }, (error as Error).message),
        h("p", { class: "quiet-text" }, "It is shown here as soon as it is there."),
        h("p", {}, h("a", { href: "#/" }, "All runs")),
      );
      this.#openOnceThere();
    }
  }

  /** The page of a run may be opened before the run has made its folder. */
  #openOnceThere(): void {
    const on = {
      message: (data: unknown) => {
        if ((data as ListChange).changed.some(({ name }) => name === this.#name)) void this.#open();
      },
    };
    this.#waiting = listen("/api/runs/events", { from: "", on });
  }

  #clear(): void {
    this.#waiting?.close();
    this.#shown?.close();
    this.#waiting = this.#shown = undefined;
  }
}

/** Shortest time between two looks at how long phases took, which no event says. */
const TIMINGS_MS = 2000;
/** Shortest time between two drawings. */
const DRAW_MS = 300;

class ShownRun implements View {
  readonly #reload: () => void;
  readonly #rows: Map<number, RoundRow>;
  readonly #timeline: Timeline;
  readonly #failures: RunDetail["failures"][number][];
  readonly #head: ReturnType<typeof runHead>;
  readonly #figures: readonly Figure[];
  readonly #samples = samplesSection();
  readonly #lanes = new TimelineView();
  readonly #memory: Map<string, WorkerMemory>;
  readonly #used = memorySection();
  readonly #failed: ReturnType<typeof failureList>;
  readonly #listening: Listening;
  #detail: RunDetail;
  #status: RunStatus;
  #frame = 0;
  #reading: ReturnType<typeof setTimeout> | undefined;
  #drawing: ReturnType<typeof setTimeout> | undefined;
  #drawnAt = 0;
  /** Since the figures were last drawn. */
  #hasNewRows = true;

  constructor(main: HTMLElement, detail: RunDetail, reload: () => void) {
    const { summary, tiers } = detail;
    this.#reload = reload;
    [this.#detail, this.#status] = [detail, detail];
    this.#rows = new Map(detail.rows.map((row) => [row.round, row]));
    this.#timeline = new Timeline(detail.timeline);
    this.#memory = new Map(detail.memory.map((worker) => [worker.id, worker]));
    this.#failures = [...detail.failures];
    this.#head = runHead(detail);
    this.#figures = tiers.length > 0 ? figuresOf(tiers) : [];
    this.#failed = failureList(summary.name);
    const figures = this.#figures.length > 0 ? h("div", { class: "figures" }, ...this.#figures.map(({ root }) => root)) : null;
    fill(main, this.#head.root, figures, this.#samples.root, this.#lanes.root, this.#used.root, this.#failed.root, configSection(detail));
    this.#draw();
    const on = {
      message: (data: unknown) => this.#take(data as LiveEvent),
      status: (data: unknown) => this.#change(data as RunStatus),
      changed: reload,
    };
    this.#listening = listen("/api/run/events", { parameters: [["name", summary.name]], from: String(detail.lastEvent), on });
  }

  close(): void {
    this.#listening.close();
    clearTimeout(this.#drawing);
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#reading);
    this.#head.close();
    this.#lanes.close();
    for (const figure of this.#figures) figure.close();
  }

  #take(event: LiveEvent): void {
    this.#timeline.advance(event);
    noteMemory(this.#memory, event);
    if (event.type === "round-end") {
      this.#rows.set(event.row.round, event.row);
      this.#detail = { ...this.#detail, best: event.best, told: comparedRounds([...this.#detail.told, event.told]) };
      this.#hasNewRows = true;
      this.#readTimingsSoon();
      // The charts need the run's tiers, which its record has once data and model are ready.
      if (this.#figures.length === 0) return this.#reload();
    }
    if (event.type === "early-stop") this.#detail = { ...this.#detail, stopped: event.stopped };
    if (event.type === "client-failure") this.#failures.push(event);
    this.#schedule();
  }

  #change(status: RunStatus): void {
    if (status.summary.state !== this.#status.summary.state) this.#readTimingsSoon();
    this.#status = status;
    this.#schedule();
  }

  #readTimingsSoon(): void {
    this.#reading ??= setTimeout(() => void this.#readTimings(), TIMINGS_MS);
  }

  async #readTimings(): Promise<void> {
    this.#reading = undefined;
    try {
      const timings = await getJson<RunDetail["timings"]>("/api/run/timings", [["name", this.#detail.summary.name]]);
      this.#detail = { ...this.#detail, timings };
      this.#hasNewRows = true;
      this.#schedule();
    } catch {
      // Those that are shown stay until the next round.
    }
  }

  /** Draws once for all events that arrive within a moment: workers report every step, and the browser may share their cores. */
  #schedule(): void {
    this.#drawing ??= setTimeout(
      () => void (this.#frame = requestAnimationFrame(() => this.#draw())),
      Math.max(0, this.#drawnAt + DRAW_MS - performance.now()),
    );
  }

  #draw(): void {
    [this.#drawing, this.#drawnAt] = [undefined, performance.now()];
    const rows = [...this.#rows.values()].toSorted((a, b) => a.round - b.round);
    this.#head.update(this.#status, rows, this.#detail);
    if (this.#hasNewRows) for (const figure of this.#figures) figure.update(rows, this.#detail);
    this.#hasNewRows = false;
    this.#samples.update(this.#detail.told);
    this.#lanes.update(this.#timeline.data);
    this.#used.update([...this.#memory.values()]);
    this.#failed.update(this.#failures);
  }
}

function figuresOf(tiers: readonly number[]): readonly Figure[] {
  return [qualityOverRounds(tiers), qualityOverRank(tiers), contributors(tiers), energy(tiers), trainingLoss(), bytes(), seconds()];
}
