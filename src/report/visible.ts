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

/**
 * A JSON-like value with every string escaped onto one line; an `error` may have several. Copies only what holds such strings: an
 * event may list a million clients.
 */
export function visibleIn<T>(value: T): T {
  return copy(value, visibleLine) as T;
}

function copy(value: unknown, show: (text: string) => string): unknown {
  if (typeof value === "string") return show(value);
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) {
    const items = value.map((item) => copy(item, show));
    return items.every((item, index) => item === value[index]) ? value : items;
  }
  const entries = Object.entries(value);
  const copied = entries.map(([key, item]) => [visibleLine(key), copy(item, key === "error" ? visibleText : show)] as const);
  return copied.every(([key, item], index) => key === entries[index]?.[0] && item === entries[index][1])
    ? value
    : Object.fromEntries(copied);
}

/** JSON on one line, with control characters escaped within its strings, so that it is also safe to print. */
export function visibleJson(value: unknown): string {
  return JSON.stringify(value).replace(UNSAFE, codeUnit);
}

function codeUnit(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
