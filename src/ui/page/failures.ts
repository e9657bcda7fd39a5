import { formatCount } from "../../report/format.ts";
import type { Failure } from "../messages.ts";
import { getJson } from "./api.ts";
import { fill, h } from "./dom.ts";

export interface FailureList {
  readonly root: HTMLElement;
  update(failures: readonly Failure[]): void;
}

/** Failed attempts are shown with their worker's messages, the latest first; its log is read when it is asked for. */
export function failureList(run: string): FailureList {
  const items = h("ol", { class: "failures" });
  const count = h("span", { class: "count" });
  const root = h("section", { class: "panel wide", hidden: true }, h("div", { class: "head" }, h("h2", {}, "Failures"), count), items);
  let shown = 0;
  return {
    root,
    update(failures) {
      root.hidden = failures.length === 0;
      if (failures.length === shown) return;
      fill(count, formatCount(failures.length));
      items.prepend(
        ...failures
          .slice(shown)
          .toReversed()
          .map((failure) => item(run, failure)),
      );
      while (items.childElementCount > MAX_SHOWN) items.lastElementChild?.remove();
      shown = failures.length;
    },
  };
}

const MAX_SHOWN = 100;

function item(run: string, { round, clientId, workerId, attempt, error, willRetry }: Failure): HTMLElement {
  const what = clientId === null ? `worker ${workerId}` : `client ${clientId} on ${workerId}`;
  const parts = [round === null ? null : `round ${round}`, what, attempt === null ? null : `attempt ${attempt}`];
  const log = h("pre", { class: "log", hidden: true, tabindex: 0, "aria-label": `End of the log of ${workerId}` });
  const button = h(
    "button",
    { type: "button", class: "quiet", "aria-expanded": "false", click: () => void showLog() },
    `Log of ${workerId}`,
  );
  async function showLog(): Promise<void> {
    log.hidden = !log.hidden;
    button.setAttribute("aria-expanded", String(!log.hidden));
    if (log.hidden) return;
    fill(log, "reading …");
    try {
      const { text, isWhole } = await getJson<{ readonly text: string; readonly isWhole: boolean }>("/api/run/log", [
        ["name", run],
        ["worker", workerId],
      ]);
      fill(log, `${isWhole ? "" : "…\n"}${text === "" ? "(empty)" : text}`);
      log.scrollTop = log.scrollHeight;
    } catch (cause) {
      fill(log, (cause as Error).message);
    }
  }
  return h(
    "li",
    {},
    h(
      "div",
      { class: "head" },
      h("b", {}, parts.filter((part) => part !== null).join(", ")),
      h("span", { class: willRetry ? "mark warn" : "mark bad" }, willRetry ? "tried again" : "given up"),
      button,
    ),
    h("pre", {}, error),
    log,
  );
}
