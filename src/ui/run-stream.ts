import { stat } from "node:fs/promises";
import path from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { advance, emptyView, type RunView } from "../report/run-view.ts";
import type { EventSink } from "./event-source.ts";
import { statusOf } from "./run-detail.ts";
import { followRecorded } from "./recorded-events.ts";
import type { RunList } from "./run-list.ts";
import type { Stories } from "./run-story.ts";

export interface RunStreamOptions {
  readonly list: RunList;
  readonly stories: Stories;
  readonly name: string;
  readonly directory: string;
  /** Number of the last event that the page has. */
  readonly from: number;
  /** How often a run that nobody holds is looked at. */
  readonly pollMs: number;
}

/** Shortest time between two messages of a run's status. */
const STATUS_MS = 200;

/**
 * Sends a page what happens to a run: its events, numbered as in its record, its `status` whenever that changes, and `changed` if the
 * page has to read the run again, since it records no events or was replaced by another. Ends when the page closes.
 */
export async function streamRun(sink: EventSink, { list, stories, name, directory, from, pollMs }: RunStreamOptions): Promise<void> {
  const { signal } = sink;
  const status = createStatus(sink, list, name);
  let before = await look(directory);
  // Read for this page a moment ago. Of a page that is behind, everything is read again.
  const known = await stories.known(directory);
  const start = known?.lastEvent !== undefined && known.lastEvent <= from ? known : undefined;
  let { view, lastEvent: seen = 0, position } = start ?? { view: emptyView, position: 0 };
  let isFirst = start === undefined;
  await status.send(start?.view);
  while (!signal.aborted) {
    for await (const { number, event, live, at } of followRecorded(directory, { after: seen, position, signal })) {
      view = advance(view, event, at);
      seen = number;
      // A page that comes back has events of the run that was here.
      if (isFirst && from > 0 && number > from) await sink.send(null, { event: "changed" });
      isFirst = false;
      if (live && number > from) await sink.send(live, { id: number });
      status.soon(() => view);
    }
    await status.send(seen > 0 ? view : undefined);
    let now = await look(directory);
    while (!signal.aborted && now.stamp === before.stamp) {
      await wait(pollMs, undefined, { signal, ref: false }).catch(() => {});
      now = await look(directory);
    }
    if (isReplaced(before, now)) {
      view = emptyView;
      position = 0;
      await sink.send(null, { event: "changed" });
    }
    before = now;
  }
  status.stop();
}

interface Look {
  /** Changes when the run does. */
  readonly stamp: string;
  /** Which file records the events; empty if none does. */
  readonly events: string;
}

/** Whether what was read of the run has to be read again. */
function isReplaced(before: Look, now: Look): boolean {
  return now.events !== before.events || (now.events === "" && now.stamp !== before.stamp);
}

async function look(directory: string): Promise<Look> {
  const [events, ...others] = await Promise.all(
    ["events.jsonl", "metrics.jsonl", "run.json", "lock"].map((file) => stat(path.join(directory, file)).catch(() => undefined)),
  );
  const stamps = [events, ...others].map((file) => (file ? `${file.ino}:${file.size}:${file.mtimeMs}` : ""));
  return { stamp: stamps.join(" "), events: events ? `${events.dev}:${events.ino}` : "" };
}

/** Sends the status at once, or soon and together with what changes until then. */
function createStatus(sink: EventSink, list: RunList, name: string) {
  let timer: NodeJS.Timeout | undefined;
  const send = async (view: RunView | undefined) => {
    const run = await list.look(name);
    if (run) await sink.send(statusOf(run.summary, view), { event: "status" });
  };
  return {
    send(view: RunView | undefined): Promise<void> {
      clearTimeout(timer);
      timer = undefined;
      return send(view);
    },
    soon(view: () => RunView): void {
      timer ??= setTimeout(() => {
        timer = undefined;
        // A folder that cannot be read shows in the list.
        send(view()).catch(() => {});
      }, STATUS_MS).unref();
    },
    stop: () => clearTimeout(timer),
  };
}
