import { visibleText } from "./visible.ts";

/** Safe HTML: only `html` and `trusted` create it, and `html` escapes all text inserted into it. */
export interface Markup {
  readonly markup: string;
}

type Insertion = string | number | Markup | readonly Markup[];

export function html(strings: TemplateStringsArray, ...insertions: readonly Insertion[]): Markup {
  return { markup: strings.map((text, index) => text + render(insertions[index] ?? "")).join("") };
}

/** For markup that prelort itself generates: charts, the style sheet. */
export function trusted(markup: string): Markup {
  return { markup: visibleText(markup) };
}

function render(insertion: Insertion): string {
  if (typeof insertion === "string" || typeof insertion === "number") return escape(String(insertion));
  return "markup" in insertion ? insertion.markup : insertion.map(({ markup }) => markup).join("");
}

function escape(text: string): string {
  return visibleText(text).replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
