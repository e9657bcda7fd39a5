import { stat } from "node:fs/promises";
import path from "node:path";
import { EVENTS } from "../records/event-log.ts";
import { advance, emptyView, type RunView } from "../report/run-view.ts";
import type { Failure, WorkerMemory } from "./messages.ts";
import { forEachRecorded } from "./recorded-events.ts";
import { Timeline } from "./timeline.ts";
import { noteMemory } from "./worker-memory.ts";

/** What the recorded events of a run tell up to one of them. */
export interface Story {
  readonly view: RunView;
  readonly timeline: Timeline;
  readonly memory: ReadonlyMap<string, WorkerMemory>;
  readonly failures: readonly Failure[];
  /** Number of the last event; undefined if none is recorded. */
  readonly lastEvent: number | undefined;
  /** Where the last complete line ends, in bytes. */
  readonly position: number;
}

/** Stories of the runs that were looked at last, of which only new events are read. */
export interface Stories {
  /** Read to the end. `attempt` is given what reads, which may throw. */
  read(directory: string, attempt: (read: () => Promise<void>) => Promise<unknown>): Promise<Story>;
  /** As it was read last, if its file is still the same. */
  known(directory: string): Promise<Story | undefined>;
}

/** A long run's takes some dozens of MB. */
const MOST_KEPT = 2;

export function createStories(): Stories {
  const kept = new Map<string, ReadStory>();

  async function known(directory: string): Promise<ReadStory | undefined> {
    const [story, file] = [kept.get(directory), await identify(directory)];
    return story && file && story.identity === file.identity && story.position <= file.size ? story : undefined;
  }

  async function keptOrNew(directory: string): Promise<ReadStory> {
    const story = (await known(directory)) ?? new ReadStory((await identify(directory))?.identity);
    kept.delete(directory);
    kept.set(directory, story);
    for (const other of [...kept.keys()].slice(0, -MOST_KEPT)) kept.delete(other);
    return story;
  }

  return {
    known,
    async read(directory, attempt) {
      const story = await keptOrNew(directory);
      await attempt(() => story.continue(directory));
      return story;
    },
  };
}

async function identify(directory: string): Promise<{ readonly identity: string; readonly size: number } | undefined> {
  const found = await stat(path.join(directory, EVENTS)).catch(() => undefined);
  return found && { identity: `${found.dev}:${found.ino}:${found.birthtimeMs}`, size: found.size };
}

class ReadStory implements Story {
  /** Of the file that it is read from. */
  readonly identity: string | undefined;
  readonly timeline = new Timeline();
  readonly memory = new Map<string, WorkerMemory>();
  readonly failures: Failure[] = [];
  view = emptyView;
  lastEvent: number | undefined;
  position = 0;
  #reading: Promise<void> | undefined;

  constructor(identity: string | undefined) {
    this.identity = identity;
  }

  /** Reads the events that were added. Calls meanwhile share one reading. */
  continue(directory: string): Promise<void> {
    return (this.#reading ??= this.#read(directory).finally(() => (this.#reading = undefined)));
  }

  /** They are looked at as they are read: there may be a million. */
  async #read(directory: string): Promise<void> {
    const { lastEvent: after = 0, position } = this;
    this.position = await forEachRecorded(directory, { after, position }, ({ number, event, live, at }) => {
      this.view = advance(this.view, event, at);
      this.lastEvent = number;
      if (!live) return;
      this.timeline.advance(live);
      noteMemory(this.memory, live);
      if (live.type === "client-failure") this.failures.push(live);
    });
  }
}
