import { setTimeout as wait } from "node:timers/promises";
import type { EventSink } from "./event-source.ts";
import type { RunList } from "./run-list.ts";

/**
 * Sends a page the rows that have changed since the version it has, which is the id of the last message it got. Ends when the page
 * closes.
 */
export async function streamList(
  sink: EventSink,
  list: RunList,
  { from, pollMs }: { readonly from: string; readonly pollMs: number },
): Promise<void> {
  const { signal } = sink;
  let version = from;
  while (!signal.aborted) {
    await list.refresh();
    const { version: now, ...change } = list.since(version);
    if (now !== version) await sink.send(change, { id: now });
    version = now;
    await wait(pollMs, undefined, { signal, ref: false }).catch(() => {});
  }
}
