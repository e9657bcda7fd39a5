import { visibleText } from "./visible.ts";

/** HTML that is safe to print: only `html` and `trusted` make it, and `html` escapes every text put into it. */
export interface Markup {
  readonly markup: string;
}

type Insertion = string | number | Markup | readonly Markup[];

export function html(strings: TemplateStringsArray, ...insertions: readonly Insertion[]): Markup {
  return { markup: strings.map((text, place) => text + render(insertions[place] ?? "")).join("") };
}

/** For markup that was not written by a person: charts, the style sheet. */
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
