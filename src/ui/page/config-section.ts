import type { ListPage, NamedConfig, RunDetail } from "../messages.ts";
import { getJson } from "./api.ts";
import { configTable } from "./config-table.ts";
import { fill, h } from "./dom.ts";

/** The run's config, and what differs in another run's. */
export function configSection({ summary, config }: RunDetail): HTMLElement {
  const content = h("div");
  const select = h("select", { change: () => void show() }, h("option", { value: "" }, "no other run"));
  const all = h("input", { type: "checkbox", change: () => void show() });
  const section = h(
    "details",
    { class: "panel wide", toggle: () => void open() },
    h("summary", {}, h("h2", {}, "Config")),
    h(
      "div",
      { class: "controls" },
      h("label", { class: "choice" }, h("span", {}, "Compare with"), select),
      h("label", { class: "choice" }, all, h("span", {}, "also what is the same")),
    ),
    content,
  );
  let isFilled = false;
  async function open(): Promise<void> {
    if (isFilled || !section.open) return;
    isFilled = true;
    const { changed } = await getJson<ListPage>("/api/runs");
    const others = changed
      .filter(({ name, method }) => name !== summary.name && method !== null)
      .toSorted((a, b) => a.name.localeCompare(b.name));
    select.append(...others.map(({ name }) => h("option", { value: name }, name)));
    await show();
  }
  async function show(): Promise<void> {
    const other = select.value;
    all.disabled = other === "";
    const own = { name: summary.name, config };
    if (other === "") return fill(content, configTable([own], false));
    try {
      fill(content, configTable([own, await getJson<NamedConfig>("/api/run/config", [["name", other]])], !all.checked));
    } catch (error) {
      fill(content, h("p", { class: "problem", role: "alert" }, (error as Error).message));
    }
  }
  return section;
}
