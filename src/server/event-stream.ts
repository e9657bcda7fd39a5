import { orAborted } from "../base/abort.ts";
import { createDeferred } from "../base/deferred.ts";
import type { ReadOptions } from "../records/event-log.ts";

/** At least so many events are kept in memory, and at most twice as many. */
const KEPT = 100_000;

/**
 * Numbered events for any number of readers, each of which gets them from the start or after a number. The writer never waits.
 *
 * Memory is bounded, however slow a reader is: of events with a `key`, only the latest of each key is kept; of the others, at least
 * the latest 100,000. What a reader lacks of earlier ones it gets by `recall`, or not at all.
 */
export interface EventStream<T extends { readonly number: number }> {
  /** With a `key`, only the latest event of that key matters: a reader may miss earlier ones. */
  push(event: T, key?: string): void;
  /** Readers get the events they have not read yet, then the end. */
  end(): void;
  /** Events up to this number are not in memory, since they were before this process. Called before the first event. */
  startAfter(number: number): void;
  read(options?: ReadOptions & { readonly recall?: Recall<T> }): AsyncIterable<T>;
}

/** Some of the next events with higher numbers than that, in order: of those that are no longer in memory, and perhaps of others. */
type Recall<T> = (after: number, signal: AbortSignal | undefined) => Promise<readonly T[]>;

export function createEventStream<T extends { readonly number: number }>(): EventStream<T> {
  return new Stream<T>();
}

class Stream<T extends { readonly number: number }> implements EventStream<T> {
  #kept: T[] = [];
  /** How many events came before those, and the number of the last of them. */
  #dropped = 0;
  #lastDropped = 0;
  /** By key, in the order of their numbers. */
  readonly #latest = new Map<string, T>();
  #hasEnded = false;
  #changed = createDeferred<void>();

  push(event: T, key?: string): void {
    if (this.#hasEnded) return;
    if (key === undefined) this.#append(event);
    else {
      this.#latest.delete(key);
      this.#latest.set(key, event);
    }
    this.#notify();
  }

  end(): void {
    this.#hasEnded = true;
    this.#notify();
  }

  startAfter(number: number): void {
    this.#lastDropped = number;
  }

  async *read({ after, signal, recall }: Parameters<EventStream<T>["read"]>[0] = {}): AsyncGenerator<T, void> {
    const isLeaving = () => signal?.aborted ?? false;
    let seen = after ?? 0;
    // Of one that has seen nothing, what is in memory is the start.
    let position = after !== undefined && after < this.#lastDropped ? -1 : this.#positionAfter(seen);
    while (!isLeaving()) {
      if (position < this.#dropped) {
        const before = seen;
        for (const event of (await recall?.(seen, signal)) ?? []) {
          if (isLeaving()) return;
          if (event.number <= seen || event.number > this.#lastDropped) continue;
          seen = event.number;
          yield event;
        }
        // Others may have been dropped while the reader took its time.
        if (seen > before && seen < this.#lastDropped) continue;
        seen = Math.max(seen, this.#lastDropped);
        position = this.#positionAfter(seen);
      }
      const next = this.#kept[position - this.#dropped];
      if (next && next.number <= seen) {
        position++;
        continue;
      }
      const event = earliest(next, this.#latest.values(), seen);
      if (event) {
        seen = event.number;
        yield event;
      } else if (this.#hasEnded) return;
      else await (signal ? orAborted(this.#changed.promise, signal).catch(() => {}) : this.#changed.promise);
    }
  }

  #append(event: T): void {
    this.#kept.push(event);
    if (this.#kept.length < 2 * KEPT) return;
    this.#dropped += KEPT;
    this.#lastDropped = this.#kept[KEPT - 1]?.number ?? this.#lastDropped;
    this.#kept = this.#kept.slice(KEPT);
  }

  #notify(): void {
    this.#changed.resolve();
    this.#changed = createDeferred();
  }

  /** Position, among all events, of the first that is in memory and has a higher number. */
  #positionAfter(number: number): number {
    return this.#dropped + firstAfter(this.#kept, number);
  }
}

/** Index of the first event with a higher number. */
function firstAfter(events: readonly { readonly number: number }[], number: number): number {
  let [low, high] = [0, events.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((events[middle]?.number ?? Infinity) <= number) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The next event of the list, or one with a key that comes before it and that was not seen. */
function earliest<T extends { readonly number: number }>(next: T | undefined, keyed: Iterable<T>, seen: number): T | undefined {
  for (const event of keyed) {
    if (event.number > seen) return next && next.number < event.number ? next : event;
  }
  return next;
}
