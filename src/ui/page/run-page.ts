import type { LiveEvent, RoundRow, RunDetail, RunStatus } from "../messages.ts";
import { Timeline } from "../timeline.ts";
import { getJson, listen, type Listening } from "./api.ts";
import { configSection } from "./config-section.ts";
import { fill, h } from "./dom.ts";
import { failureList } from "./failures.ts";
import type { Figure } from "./figure.ts";
import { qualityOverRank, qualityOverRounds } from "./quality-figures.ts";
import { bytes, contributors, energy, seconds, trainingLoss } from "./round-figures.ts";
import { runHead, type RunHead } from "./run-head.ts";
import { TimelineView } from "./timeline-view.ts";
import type { View } from "./view.ts";

/** Everything of one run, which goes on as the run does. */
export function runPage(main: HTMLElement, name: string): View {
  let shown: { readonly view: View; readonly listening: Listening } | undefined;
  let isClosed = false;
  const clear = () => {
    shown?.listening.close();
    shown?.view.close();
    shown = undefined;
  };
  async function open(): Promise<void> {
    try {
      const detail = await getJson<RunDetail>("/api/run", [["name", name]]);
      if (isClosed) return;
      clear();
      shown = showRun(main, detail, () => void open());
    } catch (error) {
      if (!isClosed) fill(main, h("p", { class: "problem", role: "alert" }, (error as Error).message));
    }
  }
  document.title = `${name} · prelort`;
  fill(main, h("p", { class: "quiet-text" }, "reading …"));
  void open();
  return {
    close() {
      isClosed = true;
      clear();
    },
  };
}

function showRun(main: HTMLElement, detail: RunDetail, reload: () => void): { readonly view: View; readonly listening: Listening } {
  const { name } = detail.summary;
  const head = runHead(detail);
  const rows = new Map<number, RoundRow>(detail.rows.map((row) => [row.round, row]));
  const timeline = new Timeline(detail.timeline);
  const failures = [...detail.failures];
  const figures = detail.tiers.length > 0 ? figuresOf(detail.tiers) : [];
  const lanes = new TimelineView();
  const failed = failureList(name);
  let status: RunStatus = detail;
  let frame = 0;
  fill(
    main,
    head.root,
    figures.length > 0 ? h("div", { class: "figures" }, ...figures.map(({ root }) => root)) : null,
    lanes.root,
    failed.root,
    configSection(detail),
  );
  // Drawn once for all events that arrive together.
  const draw = () => {
    frame = 0;
    const inOrder = [...rows.values()].toSorted((a, b) => a.round - b.round);
    head.update(status, inOrder);
    for (const figure of figures) figure.update(inOrder, detail);
    lanes.update(timeline.data, status.summary.state === "running");
    failed.update(failures);
  };
  const schedule = () => (frame ||= requestAnimationFrame(draw));
  const take = (event: LiveEvent) => {
    timeline.advance(event);
    if (event.type === "round-end") rows.set(event.row.round, event.row);
    if (event.type === "client-failure") failures.push(event);
    // The rank–quality curve needs the run's tiers, which the record has once data and model are ready.
    if (event.type === "round-end" && figures.length === 0) reload();
    schedule();
  };
  draw();
  const listening = listen("/api/run/events", {
    parameters: [["name", name]],
    from: String(detail.lastEvent),
    on: {
      message: (data) => take(data as LiveEvent),
      status: (data) => {
        const before = status.summary.state;
        status = data as RunStatus;
        // Its times are written by then.
        if (before === "running" && status.summary.state !== "running") reload();
        schedule();
      },
      changed: reload,
    },
  });
  return { view: { close: () => closeAll({ frame, head, figures, close: () => lanes.close() }) }, listening };
}

interface Shown {
  readonly frame: number;
  readonly head: RunHead;
  readonly figures: readonly Figure[];
  close(): void;
}

function closeAll({ frame, head, figures, close }: Shown): void {
  cancelAnimationFrame(frame);
  head.close();
  for (const figure of figures) figure.close();
  close();
}

function figuresOf(tiers: readonly number[]): readonly Figure[] {
  return [qualityOverRounds(tiers), qualityOverRank(tiers), contributors(tiers), energy(tiers), trainingLoss(), bytes(), seconds()];
}
