import { formatSeconds, NOTHING } from "../../report/format.ts";
import type { RunSummary } from "../messages.ts";
import { h } from "./dom.ts";
import { describeHolder, formatQuality, runAddress, STATES } from "./words.ts";

export const COLUMNS = ["run", "state", "rounds", "best tier", "worst tier", "method", "model", "time"];

/** What a run is filtered by. */
export function textOf({ name, method, model, state }: RunSummary): string {
  return `${name} ${method ?? ""} ${model ?? ""} ${STATES[state]}`.toLowerCase();
}

/** Fills a run's row; the keyboard's place in it is kept. */
export function fillRow(
  row: HTMLTableRowElement,
  summary: RunSummary,
  { isSelected, select }: { readonly isSelected: boolean; select(isSelected: boolean): void },
): void {
  const { name, state, problem, method, model, rounds, quality, seconds } = summary;
  const value = (of: "best" | "worst") => (quality ? `${formatQuality(quality.measure, quality[of].value)} at ${quality[of].r}` : NOTHING);
  const box = h("input", {
    type: "checkbox",
    "aria-label": `Select ${name}`,
    checked: isSelected,
    disabled: quality === null,
    change: () => select(box.checked),
  });
  const holder = state === "running" ? h("p", { class: "holder" }, describeHolder(summary)) : null;
  const cell = (label: string, ...children: (Node | string | null)[]) =>
    h("td", { "data-label": label, "data-nothing": children.at(-1) === NOTHING }, ...children);
  const cells = [
    h("td", { class: "pick" }, box),
    h("th", { scope: "row" }, h("a", { href: runAddress(name) }, name), problem === null ? null : h("p", { class: "problem" }, problem)),
    cell("state", h("span", { class: "state", "data-state": state }, STATES[state]), holder),
    cell(
      "rounds",
      rounds ? h("progress", { max: Math.max(1, rounds.of), value: rounds.done, "aria-label": `Rounds of ${name}` }) : null,
      rounds ? `${rounds.done} of ${rounds.of}` : NOTHING,
    ),
    cell("best tier", value("best")),
    cell("worst tier", value("worst")),
    cell("method", method ?? NOTHING),
    cell("model", model ?? NOTHING),
    cell("time", seconds === null ? NOTHING : formatSeconds(seconds)),
  ];
  const hadFocus = row.contains(document.activeElement)
    ? [...row.querySelectorAll("a, input")].indexOf(document.activeElement as Element)
    : -1;
  row.replaceChildren(...cells);
  if (hadFocus >= 0) row.querySelectorAll<HTMLElement>("a, input")[hadFocus]?.focus();
}
