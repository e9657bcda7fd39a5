import stringWidth from "string-width";
import wrapAnsi from "wrap-ansi";

/** A text in a column of its own. */
export interface TextColumn {
  readonly head: string;
  /** Without control characters, except newlines and tabs. */
  readonly text: string;
}

const GAP = "   ";
/** Text is hard to read in a narrower column. */
const LEAST_WIDTH = 28;

/** Whether a terminal of this width has room for so many columns. */
export function hasRoomFor(columns: number, width: number): boolean {
  return width >= columns * LEAST_WIDTH + (columns - 1) * GAP.length;
}

/** Texts beside one another, wrapped between words, each under its head. */
export function sideBySide(columns: readonly TextColumn[], width: number): string {
  const each = Math.max(1, Math.floor((width - (columns.length - 1) * GAP.length) / columns.length));
  const wrap = (text: string) => wrapAnsi(text.replaceAll("\t", "    "), each, { hard: true, trim: false }).split("\n");
  const cells = columns.map(({ head, text }) => [...wrap(head), "─".repeat(each), ...wrap(text).map((line) => line.trimEnd())]);
  const height = cells.reduce((most, { length }) => Math.max(most, length), 0);
  const row = (line: number) => cells.map((cell) => pad(cell[line] ?? "", each)).join(GAP);
  return Array.from({ length: height }, (_, line) => row(line).trimEnd()).join("\n");
}

function pad(text: string, width: number): string {
  return text + " ".repeat(Math.max(0, width - stringWidth(text)));
}
