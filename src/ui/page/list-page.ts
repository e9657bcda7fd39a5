import { plural } from "../../report/format.ts";
import type { ListChange, ListPage as FirstList, RunSummary } from "../messages.ts";
import { getJson, listen, type Listening } from "./api.ts";
import { fill, h, setText } from "./dom.ts";
import { COLUMNS, fillRow, textOf } from "./list-row.ts";
import type { View } from "./view.ts";

/** Kept while other pages are looked at. */
const selected = new Set<string>();

interface Row {
  summary: RunSummary;
  readonly element: HTMLTableRowElement;
}

/** All runs of the folder, which can be selected and laid over one another. */
export class ListPage implements View {
  readonly #main: HTMLElement;
  readonly #rows = new Map<string, Row>();
  readonly #body = h("tbody");
  readonly #count = h("p", { class: "quiet-text", role: "status" });
  readonly #compare = h("a", { class: "button", href: "#/compare" });
  readonly #every = h("input", { type: "checkbox", "aria-label": "Select all shown runs", change: () => this.#selectEvery() });
  readonly #search = h("input", {
    type: "search",
    placeholder: "Filter",
    "aria-label": "Filter runs by name, method, model or state",
    input: () => this.#arrange(),
  });
  #listening: Listening | undefined;
  #isClosed = false;

  constructor(main: HTMLElement) {
    this.#main = main;
    document.title = "Runs · prelort";
    const head = h("tr", {}, h("th", {}, this.#every), ...COLUMNS.map((name) => h("th", { scope: "col" }, name)));
    fill(
      main,
      h("div", { class: "toolbar" }, h("h1", {}, "Runs"), this.#search, this.#compare),
      this.#count,
      h(
        "div",
        { class: "scroll", tabindex: 0, role: "region", "aria-label": "Runs" },
        h("table", { class: "runs" }, h("thead", {}, head), this.#body),
      ),
    );
    void this.#open();
  }

  close(): void {
    this.#isClosed = true;
    this.#listening?.close();
  }

  async #open(): Promise<void> {
    try {
      const page = await getJson<FirstList>("/api/runs");
      if (this.#isClosed) return;
      this.#take(page);
      const on = { message: (data: unknown) => this.#take(data as ListChange) };
      this.#listening = listen("/api/runs/events", { from: page.version, on });
    } catch (error) {
      if (!this.#isClosed) fill(this.#main, h("p", { class: "problem", role: "alert" }, (error as Error).message));
    }
  }

  #take({ changed, removed }: ListChange): void {
    for (const name of removed) {
      this.#rows.delete(name);
      selected.delete(name);
    }
    for (const summary of changed) {
      const { name } = summary;
      const row = this.#rows.get(name) ?? { summary, element: h("tr") };
      row.summary = summary;
      const select = (isSelected: boolean) => {
        choose(name, isSelected);
        this.#showSelection();
      };
      fillRow(row.element, summary, { isSelected: selected.has(name), select });
      this.#rows.set(name, row);
    }
    this.#arrange();
  }

  #shown(): readonly Row[] {
    const words = this.#search.value.toLowerCase().split(/\s+/);
    return [...this.#rows.values()]
      .filter(({ summary }) => words.every((word) => textOf(summary).includes(word)))
      .toSorted((a, b) => (b.summary.changed ?? 0) - (a.summary.changed ?? 0) || a.summary.name.localeCompare(b.summary.name));
  }

  #arrange(): void {
    const shown = this.#shown();
    const elements = shown.map(({ element }) => element);
    const { children } = this.#body;
    // Moving nothing keeps the keyboard's place.
    if (elements.length !== children.length || elements.some((element, index) => children[index] !== element)) {
      this.#body.replaceChildren(...elements);
    }
    const running = shown.filter(({ summary }) => summary.state === "running").length;
    const count = `${plural(shown.length, "run")}${running > 0 ? `, ${running} running` : ""}`;
    setText(this.#count, this.#rows.size === 0 ? "No runs here yet. A run appears once it starts." : count);
    this.#showSelection();
  }

  #showSelection(): void {
    this.#compare.href = `#/compare?${new URLSearchParams([...selected].toSorted().map((name) => ["run", name]))}`;
    setText(this.#compare, selected.size === 0 ? "Select runs to compare" : `Compare ${plural(selected.size, "run")}`);
    this.#compare.toggleAttribute("data-empty", selected.size === 0);
    const comparable = this.#shown().filter(({ summary }) => summary.quality);
    this.#every.checked = comparable.length > 0 && comparable.every(({ summary }) => selected.has(summary.name));
  }

  #selectEvery(): void {
    for (const { summary, element } of this.#shown()) {
      const box = element.querySelector("input");
      if (!box || !summary.quality) continue;
      box.checked = this.#every.checked;
      choose(summary.name, box.checked);
    }
    this.#showSelection();
  }
}

function choose(name: string, isSelected: boolean): void {
  if (isSelected) selected.add(name);
  else selected.delete(name);
}
