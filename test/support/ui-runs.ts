import { federate } from "../../src/server/federate.ts";
import { tinyRun, type TinyRunOptions } from "../../src/testing/tiny-run.ts";

/** Trains a tiny run in this process, to its end or failure. */
export async function trainTiny(options: TinyRunOptions): Promise<void> {
  await federate(tinyRun(options)).result.catch(() => {});
}

/** A line of `events.jsonl`. */
export function line(number: number, at: number, event: object): string {
  return `${JSON.stringify({ version: 1, number, at, ...event })}\n`;
}
