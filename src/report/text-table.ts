import CliTable from "cli-table3";
import type { Table } from "./tables.ts";

/** A table for a terminal or a log: rules above and below the heads, nothing between rows, no colour. */
export function renderTextTable({ title, columns, rows }: Table): string {
  const table = new CliTable({
    head: [...columns],
    colAligns: columns.map((_, column) => (column === 0 ? "left" : "right")),
    chars: CHARS,
    style: { head: [], border: [], "padding-left": 1, "padding-right": 1 },
  });
  table.push(...rows.map((row) => [...row]));
  return `${title}\n${table.toString()}`;
}

const CHARS = {
  top: "─",
  "top-mid": "─",
  "top-left": "",
  "top-right": "",
  bottom: "─",
  "bottom-mid": "─",
  "bottom-left": "",
  "bottom-right": "",
  left: "",
  "left-mid": "",
  mid: "",
  "mid-mid": "",
  right: "",
  "right-mid": "",
  middle: " ",
};
