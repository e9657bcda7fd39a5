import { orAborted } from "../base/abort.ts";
import { createDeferred } from "../base/deferred.ts";
import type { ReadOptions, RecordedEvent } from "../records/event-log.ts";
import type { LineLog } from "../records/line-log.ts";
import { createEventStream } from "./event-stream.ts";
import { EVENT_VERSION, type NewEvent, type RunEvent, type WorkerStatusEvent } from "./events.ts";

/**
 * Numbers a run's events, gives them to its readers and records them in its folder. The last event is recorded while the folder is
 * still held (`conclude`), and given to readers once everything is closed (`end`).
 */
export class RunEvents {
  readonly #stream = createEventStream<RunEvent>();
  #number = 0;
  #log: Pick<LineLog<RecordedEvent>, "append"> | undefined;
  /** Recorded once there is a log. */
  readonly #waiting: RecordedEvent[] = [];
  /** What was recorded last of each worker. */
  readonly #statuses = new Map<string, string>();
  #last: RunEvent | undefined;
  readonly #claimed = createDeferred<RecordedReader | undefined>();

  readonly emit = (event: NewEvent): void => {
    const numbered = this.#stamp(event);
    this.#stream.push(numbered, numbered.type === "worker-status" ? numbered.workerId : undefined);
  };

  /** The run has a folder; `readRecorded` reads the events in it. */
  claim(readRecorded: RecordedReader): void {
    this.#claimed.resolve(readRecorded);
  }

  /** The run had events in an earlier process, up to this number. */
  continueAfter(number: number): void {
    this.#number = number;
    this.#stream.startAfter(number);
  }

  /** Everything so far is written there, and from now on each event. */
  recordIn(log: Pick<LineLog<RecordedEvent>, "append">): void {
    for (const event of this.#waiting.splice(0)) log.append(event);
    this.#log = log;
  }

  /** Records the last event. */
  conclude(event: NewEvent): void {
    this.#last = this.#stamp(event);
    this.#log = undefined;
  }

  /** Readers get the last event, which is the concluding one if that has come true, then the end. */
  end(event: NewEvent): void {
    this.#stream.push(this.#last?.type === event.type ? this.#last : this.#stamp(event));
    this.#stream.end();
    this.#claimed.resolve(undefined);
  }

  /** Those of this process, or all after a number. What is not in memory is read from the run's folder. */
  async *read({ after, signal }: ReadOptions = {}): AsyncGenerator<RunEvent, void> {
    // Until then it is not known whether the run had events in an earlier process.
    if (after !== undefined) await this.#claim(signal);
    yield* this.#stream.read({ after, signal, recall: this.#recall });
  }

  readonly #recall = async (after: number, signal?: AbortSignal): Promise<readonly RunEvent[]> => {
    const recorded = (await (await this.#claim(signal))?.(after, AT_ONCE)) ?? [];
    return recorded.filter(({ version }) => version === EVENT_VERSION) as unknown as readonly RunEvent[];
  };

  /** Undefined if the run ended without a folder, or the signal aborts first. */
  async #claim(signal?: AbortSignal): Promise<RecordedReader | undefined> {
    const claimed = this.#claimed.promise;
    return signal ? orAborted(claimed, signal).catch(() => undefined) : claimed;
  }

  #stamp(event: NewEvent): RunEvent {
    // Onto the event itself, which may compute a field only when somebody reads it.
    const at = Date.now();
    // Thus those of a process that resumes the run, or of a run that replaces it, are higher than any that a reader has seen.
    this.#number = Math.max(this.#number + 1, at);
    const numbered: RunEvent = Object.assign(event, { number: this.#number, at });
    const recorded = this.#isNews(numbered) ? recordOf(numbered) : undefined;
    if (recorded && this.#log) this.#log.append(recorded);
    else if (recorded) this.#waiting.push(recorded);
    return numbered;
  }

  /** The steps of a task are not recorded. */
  #isNews(event: RunEvent): boolean {
    if (event.type !== "worker-status") return true;
    const status = newsOf(event);
    if (this.#statuses.get(event.workerId) === status) return false;
    this.#statuses.set(event.workerId, status);
    return true;
  }
}

/** Reads the first `most` or more of the recorded events with higher numbers. */
type RecordedReader = (after: number, most: number) => Promise<readonly RecordedEvent[]>;

/** A reader that stands still holds about so many. */
const AT_ONCE = 10_000;

function newsOf({ state, taskId, activity }: WorkerStatusEvent): string {
  return JSON.stringify([state, taskId, activity]);
}

/** What other files of the run hold is left out: the clients, and the metrics of earlier rounds. */
function recordOf(event: RunEvent): RecordedEvent {
  const { number, at, type } = event;
  const names = Object.keys(event).filter((name) => !(type === "data-ready" && name === "clients"));
  const content: Record<string, unknown> = Object.fromEntries(names.map((name) => [name, event[name as keyof RunEvent]]));
  if (type === "run-start" && event.resumed) content["resumed"] = { ...event.resumed, metrics: undefined };
  return { version: EVENT_VERSION, number, at, ...content, type };
}
