/*
 * Data, client ids, file names and workers' messages may contain characters that a terminal obeys or hides: escape sequences,
 * carriage returns, bidirectional marks. They are shown as the escapes of JSON and JavaScript.
 */

/** Controls (C0, DEL, C1), line and paragraph separators, bidirectional marks, halves of surrogate pairs. */
const UNSAFE = /[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}\p{Cs}]/gu;
const SHORT: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/** Text that must stay on one line. Escaping twice changes nothing. */
export function visibleLine(text: string): string {
  return text.replace(UNSAFE, (character) => SHORT[character] ?? codeUnit(character));
}

/** Text of several lines, which keeps its newlines and tabs. */
export function visibleText(text: string): string {
  return text
    .replaceAll("\r\n", "\n")
    .replace(UNSAFE, (character) => (character === "\n" || character === "\t" ? character : visibleLine(character)));
}

/** A copy of a JSON-like value with every string escaped onto one line; an `error` may have several. */
export function visibleIn<T>(value: T): T {
  return copy(value, visibleLine) as T;
}

function copy(value: unknown, show: (text: string) => string): unknown {
  if (typeof value === "string") return show(value);
  if (Array.isArray(value)) return value.map((item) => copy(item, show));
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([key, item]) => [visibleLine(key), copy(item, key === "error" ? visibleText : show)]);
  return Object.fromEntries(entries) as unknown;
}

/** JSON on one line, with control characters escaped within its strings, so that it is also safe to print. */
export function visibleJson(value: unknown): string {
  return JSON.stringify(value).replace(UNSAFE, codeUnit);
}

function codeUnit(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
