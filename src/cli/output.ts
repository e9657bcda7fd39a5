import process from "node:process";
import { USUAL_WIDTH, wrapProse } from "../report/text-table.ts";
import { visibleJson, visibleText } from "../report/visible.ts";

/*
 * Commands write to the terminal only here (reporters and the set-up's progress have streams of their own), so that control
 * characters from data, files and workers are always escaped.
 */

/** A command's result. In a terminal its lines are wrapped between words. */
export function print(text: string): void {
  process.stdout.write(`${wrapProse(visibleText(text), process.stdout.columns || Infinity)}\n`);
}

export function printJson(value: unknown): void {
  process.stdout.write(`${visibleJson(value)}\n`);
}

/** Progress, warnings and errors. In a terminal its lines are wrapped between words. */
export function complain(text: string): void {
  process.stderr.write(`${wrapProse(visibleText(text), process.stderr.columns || Infinity)}\n`);
}

/** Columns for tables. */
export function outputWidth(): number {
  return process.stdout.columns || USUAL_WIDTH;
}

/** Says a line unless it was the last one. */
export function tellOnce(say: (line: string) => void): (line: string) => void {
  let last: string | undefined;
  return (line) => {
    if (line !== last) say((last = line));
  };
}
