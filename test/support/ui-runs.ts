import { appendFile, mkdir } from "node:fs/promises";
import path from "node:path";
import { federate } from "../../src/server/federate.ts";
import { tinyRun, type TinyRunOptions } from "../../src/testing/tiny-run.ts";

/** Trains a tiny run in this process, to its end or failure, and records its events as they come. */
export async function trainTiny(options: TinyRunOptions & { readonly name: string }): Promise<void> {
  const run = federate(tinyRun(options));
  run.result.catch(() => {});
  const directory = path.join(options.runsDir, options.name);
  let number = 0;
  try {
    for await (const event of run) {
      await mkdir(directory, { recursive: true });
      await appendFile(
        path.join(directory, "events.jsonl"),
        line(++number, Date.now(), { ...event, clients: "clients" in event && event.type === "round-start" ? event.clients : undefined }),
      );
    }
  } catch {
    // Its last event says so.
  }
}

/** A line of `events.jsonl`. */
export function line(number: number, at: number, event: object): string {
  return `${JSON.stringify({ version: 1, number, at, ...event })}\n`;
}
