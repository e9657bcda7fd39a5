import { visibleText } from "../../report/visible.ts";

/*
 * Elements. Everything from data becomes text: no string is ever parsed as HTML, and control characters are shown as escapes.
 */

type Child = Node | string | number | null | undefined | false;
type Attributes = Readonly<Record<string, string | number | boolean | null | undefined | ((event: Event) => void)>>;

/** An element. A function is a listener, `true` an attribute without a value; `null`, `false` and `undefined` leave one out. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, visibleText(String(value)));
  }
  fill(element, ...children);
  return element;
}

/** Replaces what an element holds. */
export function fill(element: Element, ...children: Child[]): void {
  element.replaceChildren(
    ...children.flatMap((child) => {
      if (child === null || child === undefined || child === false) return [];
      return child instanceof Node ? [child] : [document.createTextNode(visibleText(String(child)))];
    }),
  );
}

/** Sets text only if it differs, so that a screen reader is not told the same again. */
export function setText(element: Element, text: string): void {
  const shown = visibleText(text);
  if (element.textContent !== shown) element.textContent = shown;
}

/** A table with a heading for each column and row. */
export function table(caption: string, columns: readonly string[], rows: readonly (readonly Child[])[], className = ""): HTMLElement {
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    h(
      "table",
      { class: className },
      h("caption", { class: "sr-only" }, caption),
      h("thead", {}, h("tr", {}, ...columns.map((column) => h("th", { scope: "col" }, column)))),
      h(
        "tbody",
        {},
        ...rows.map(([first, ...cells]) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, first),
            // A narrow screen has no row of headings for some tables.
            ...cells.map((cell, index) => h("td", { "data-label": columns[index + 1] }, cell)),
          ),
        ),
      ),
    ),
  );
}

/** A choice among a few, with its label. */
export function choice(
  label: string,
  options: readonly { readonly value: string; readonly text: string }[],
  chosen: string,
  choose: (value: string) => void,
): HTMLElement {
  const select = h(
    "select",
    { change: () => choose(select.value) },
    ...options.map(({ value, text }) => h("option", { value, selected: value === chosen }, text)),
  );
  return h("label", { class: "choice" }, h("span", {}, label), select);
}
