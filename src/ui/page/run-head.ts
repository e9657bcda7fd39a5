import { formatBytes, formatCount, formatSeconds, NOTHING } from "../../report/format.ts";
import type { Choice, RoundRow, RunDetail, RunStatus, RunSummary } from "../messages.ts";
import { post } from "./api.ts";
import { choiceLine } from "./choice-line.ts";
import { fill, h, setText } from "./dom.ts";
import { canControl } from "./permissions.ts";
import { describeHolder, formatQuality, STATES } from "./words.ts";

export interface RunHead {
  readonly root: HTMLElement;
  update(status: RunStatus, rows: readonly RoundRow[], choice: Choice): void;
  close(): void;
}

/** Name, state and totals of a run, and what it waits for. */
export function runHead(detail: RunDetail): RunHead {
  const { summary } = detail;
  const state = h("span", { class: "state" });
  const progress = h("progress", { "aria-label": "Rounds done", max: 1, value: 0 });
  const rounds = h("span", { class: "rounds" });
  const choice = choiceLine();
  const wait = h("p", { class: "wait" });
  const workers = h("ul", { class: "workers" });
  const facts = h("dl", { class: "facts" });
  const actions = h("div", { class: "controls" });
  const tick = () => {
    for (const item of workers.querySelectorAll<HTMLElement>("[data-since]")) {
      setText(item, formatSeconds(Math.max(0, Date.now() - Number(item.dataset["since"])) / 1000));
    }
  };
  const ticking = setInterval(tick, 1000);
  const root = h(
    "section",
    { class: "run-head" },
    h("p", { class: "kicker" }, h("a", { href: "#/" }, "All runs"), ` · ${detail.directory}`),
    h("div", { class: "title" }, h("h1", {}, summary.name), state, actions),
    h("div", { class: "progress" }, progress, rounds),
    choice.root,
    wait,
    workers,
    facts,
    ...remarksOf(detail),
  );
  return {
    root,
    update(status, rows, chosen) {
      const { summary: now } = status;
      setText(state, STATES[now.state]);
      state.dataset["state"] = now.state;
      progress.max = Math.max(1, now.rounds?.of ?? 1);
      progress.value = Math.max(rows.at(-1)?.round ?? 0, now.rounds?.done ?? 0);
      setText(rounds, now.rounds ? `${progress.value} of ${now.rounds.of} rounds done` : "");
      choice.update(chosen, now.rounds?.of ?? 0);
      setText(wait, status.wait ?? "");
      wait.hidden = status.wait === null;
      fill(
        workers,
        ...status.workers.map(({ id, words, since }) =>
          h("li", {}, h("b", {}, id), h("span", {}, words), h("span", { class: "since", "data-since": since })),
        ),
      );
      tick();
      fill(facts, ...factsOf(now, rows, detail, chosen.best));
      // A button that is refilled would lose the keyboard's place.
      if (actions.dataset["state"] === now.state) return;
      actions.dataset["state"] = now.state;
      fill(actions, ...actionsOf(now));
    },
    close: () => clearInterval(ticking),
  };
}

function remarksOf({ method, problems, doubts }: RunDetail): readonly HTMLElement[] {
  return [
    ...(method ? [h("p", { class: "quiet-text" }, `${method.name}: ${method.note}`)] : []),
    ...problems.map((problem) => h("p", { class: "problem" }, problem)),
    ...(doubts.length > 0 ? [h("p", { class: "quiet-text" }, `Not a function of config, seed and data alone: ${doubts.join("; ")}.`)] : []),
  ];
}

function factsOf(
  summary: RunSummary,
  rows: readonly RoundRow[],
  { config, device, versions }: RunDetail,
  best: RunDetail["best"],
): readonly HTMLElement[] {
  const { quality, seconds } = summary;
  const down = rows.reduce((sum, { bytesDown }) => sum + bytesDown, 0);
  const up = rows.reduce((sum, { bytesUp }) => sum + bytesUp, 0);
  const lost = rows.reduce((sum, { failed, late }) => sum + failed.length + late.length, 0);
  const data = (config as { readonly data?: { readonly path?: unknown } } | null)?.data?.path;
  const value = (of: "best" | "worst") =>
    quality ? `${formatQuality(quality.measure, quality[of].value)} at rank ${quality[of].r}` : NOTHING;
  // So that it is not taken for the best round's.
  const last = quality && best ? ` of round ${quality.round}` : "";
  const facts: (readonly [string, string])[] = [
    [quality ? `best ${quality.measure}${last}` : "best", value("best")],
    [`worst tier${last}`, value("worst")],
    ["model", summary.model ?? NOTHING],
    ["data", typeof data === "string" ? data : NOTHING],
    ["time", seconds === null ? NOTHING : formatSeconds(seconds)],
    ["bytes to clients", formatBytes(down)],
    ["bytes from clients", formatBytes(up)],
    ["clients failed or late", formatCount(lost)],
    ["device", device ?? NOTHING],
    ["held by", describeHolder(summary)],
    ["torch", versions["torch"] ?? NOTHING],
  ];
  return facts.filter(([, text]) => text !== NOTHING).map(([term, text]) => h("div", {}, h("dt", {}, term), h("dd", {}, text)));
}

function actionsOf({ name, state }: RunSummary): readonly HTMLElement[] {
  if (!canControl()) return [];
  const button = (text: string, path: string) => {
    const element = h("button", { type: "button", click: () => void act() }, text);
    const act = async () => {
      element.disabled = true;
      try {
        await post(path, [["name", name]]);
      } catch (error) {
        element.replaceWith(h("span", { class: "problem", role: "alert" }, (error as Error).message));
      }
    };
    return element;
  };
  if (state === "running") return [button("Stop", "/api/run/stop")];
  return state === "interrupted" || state === "killed" || state === "failed" ? [button("Resume", "/api/run/resume")] : [];
}
