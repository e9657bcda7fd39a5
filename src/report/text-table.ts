import stringWidth from "string-width";
import wrapAnsi from "wrap-ansi";
import type { Table } from "./tables.ts";
import { visibleLine } from "./visible.ts";

/** Columns of a file, and of a terminal of unknown width. */
export const USUAL_WIDTH = 80;
const GAP = "  ";

interface Column {
  readonly head: string;
  readonly cells: readonly string[];
  /** Text that may be wrapped and is aligned to the left; otherwise numbers. */
  readonly isProse: boolean;
}

/**
 * A table for a terminal or a log: rules above and below the heads, nothing between rows, no colour. To fit `width`, heads and
 * prose are wrapped between words, and columns that still have no room follow in further blocks, each with the rows' names.
 */
export function renderTextTable({ title, columns, rows, prose = [] }: Table, width = USUAL_WIDTH): string {
  const [names, ...others] = columns.map((head, index): Column => ({
    head: visibleLine(head),
    cells: rows.map((row) => glued(visibleLine(row[index] ?? ""))),
    isProse: index === 0 || prose.includes(index),
  }));
  if (!names) return title;
  const blocks = split(names, others, width).map((block) => renderBlock(block, width));
  return [...(title === "" ? [] : [visibleLine(title)]), blocks.join("\n")].join("\n");
}

/** Blocks of as many columns as there is room for, each with the rows' names. */
function split(names: Column, others: readonly Column[], width: number): readonly (readonly Column[])[] {
  const blocks: Column[][] = [];
  let room = 0;
  for (const column of others) {
    const needed = GAP.length + leastWidth(column);
    if (blocks.length === 0 || needed > room) {
      blocks.push([names]);
      room = width - 1 - leastWidth(names);
    }
    blocks.at(-1)?.push(column);
    room -= needed;
  }
  return blocks.length > 0 ? blocks : [[names]];
}

function renderBlock(columns: readonly Column[], width: number): string {
  const widths = spread(columns, width);
  const rule = "─".repeat(Math.min(width, 1 + widths.reduce((sum, each) => sum + each, 0) + GAP.length * (widths.length - 1)));
  const row = (cells: readonly string[]) => renderRow(cells, columns, widths);
  const rows = (columns[0]?.cells ?? []).map((_, index) => row(columns.map(({ cells }) => cells[index] ?? "")));
  return [rule, row(columns.map(({ head }) => head)), rule, ...rows, rule].join("\n");
}

/** Each column's width: at least its longest word, then, from the first column on, up to its full width while there is room. */
function spread(columns: readonly Column[], width: number): readonly number[] {
  const least = columns.map(leastWidth);
  let room = width - 1 - GAP.length * (columns.length - 1) - least.reduce((sum, each) => sum + each, 0);
  return columns.map(({ head, cells }, index) => {
    const narrow = least[index] ?? 0;
    const extra = Math.max(0, Math.min(room, widest([head, ...cells]) - narrow));
    room -= extra;
    return narrow + extra;
  });
}

function leastWidth({ head, cells, isProse }: Column): number {
  return Math.max(widest(head.split(" ")), widest(isProse ? cells.flatMap((cell) => cell.split(" ")) : cells));
}

function widest(texts: readonly string[]): number {
  return texts.reduce((most, text) => Math.max(most, stringWidth(text)), 0);
}

function renderRow(cells: readonly string[], columns: readonly Column[], widths: readonly number[]): string {
  const wrapped = cells.map((cell, index) => wrapAnsi(cell, Math.max(1, widths[index] ?? 0)).split("\n"));
  const height = wrapped.reduce((most, lines) => Math.max(most, lines.length), 1);
  const lines = Array.from({ length: height }, (_, line) =>
    columns.map(({ isProse }, index) => pad(wrapped[index]?.[line] ?? "", widths[index] ?? 0, isProse)).join(GAP),
  );
  return lines.map((line) => ` ${line}`.trimEnd().replaceAll(GLUE, " ")).join("\n");
}

/** A non-breaking space. */
const GLUE = "\u00a0";

/** Keeps a number and its percent sign on one line. */
function glued(cell: string): string {
  return cell.replaceAll(/(?<=\d) (?=%)/g, GLUE);
}

function pad(text: string, width: number, isLeft: boolean): string {
  const blanks = " ".repeat(Math.max(0, width - stringWidth(text)));
  return isLeft ? text + blanks : blanks + text;
}

/** Wraps lines between words; continuation lines are indented by four more columns. */
export function wrapProse(text: string, width: number): string {
  return text
    .split("\n")
    .map((line) => {
      if (stringWidth(line) <= width) return line;
      const indent = (/^ */.exec(line)?.[0].length ?? 0) + 4;
      const room = Math.max(1, width - indent);
      return " ".repeat(indent - 4) + wrapAnsi(line.trimStart(), room).replaceAll("\n", `\n${" ".repeat(indent)}`);
    })
    .join("\n");
}
