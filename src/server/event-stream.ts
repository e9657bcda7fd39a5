import { createDeferred } from "../base/deferred.ts";

/** Upper bound on events buffered for late readers. */
const KEPT = 100_000;

/**
 * Numbered events for any number of readers, each of which gets them from the start or after a number. The writer never waits.
 *
 * Memory is bounded: of events with a `key`, only the latest of each key is kept; of the others, the latest 100,000. A reader that
 * has started misses none of these, however slow it is; one that stops reading costs no memory.
 */
export interface EventStream<T extends { readonly number: number }> {
  /** With a `key`, only the latest event of that key matters: a reader may miss earlier ones. */
  push(event: T, key?: string): void;
  /** Readers get the events they have not read yet, then the end. */
  end(): void;
  read(options?: ReadOptions): AsyncIterable<T>;
  /** The number of the latest event that late readers no longer get; 0 if they get all. */
  readonly dropped: number;
}

export interface ReadOptions {
  /** Only events with higher numbers, for a reader that has seen earlier ones. All by default. */
  readonly after?: number | undefined;
  /** Ends the iteration when it aborts, also while it waits for the next event. */
  readonly signal?: AbortSignal | undefined;
}

/** Each reader holds a node; nodes before `first` that no reader holds are garbage. */
interface Node<T> {
  readonly event?: T;
  next?: Node<T> & { readonly event: T };
}

export function createEventStream<T extends { readonly number: number }>(): EventStream<T> {
  let first: Node<T> = {};
  let last = first;
  let length = 0;
  /** By key, in the order of their numbers. */
  const latest = new Map<string, T>();
  let ended = false;
  let changed = createDeferred<void>();

  const notify = () => {
    changed.resolve();
    changed = createDeferred();
  };
  const append = (node: Node<T> & { readonly event: T }) => {
    last.next = node;
    last = node;
    if (length === KEPT) first = first.next ?? first;
    else length++;
  };
  async function* read({ after = 0, signal }: ReadOptions = {}): AsyncGenerator<T, void> {
    let node = first;
    let seen = after;
    // Wakes all readers: the others find nothing new.
    signal?.addEventListener("abort", notify);
    try {
      while (true) {
        if (signal?.aborted) return;
        while (node.next && node.next.event.number <= seen) node = node.next;
        const next = nextOf(node, latest.values(), seen);
        if (next) {
          seen = next.number;
          yield next;
        } else if (ended) return;
        else await changed.promise;
      }
    } finally {
      signal?.removeEventListener("abort", notify);
    }
  }

  return {
    push(event, key) {
      if (ended) return;
      if (key === undefined) append({ event });
      else {
        latest.delete(key);
        latest.set(key, event);
      }
      notify();
    },
    end() {
      ended = true;
      notify();
    },
    read,
    get dropped() {
      return first.event?.number ?? 0;
    },
  };
}

/** The event after `seen`: the next of the list, or one with a key that comes before it. */
function nextOf<T extends { readonly number: number }>(node: Node<T>, keyed: Iterable<T>, seen: number): T | undefined {
  const next = node.next?.event;
  for (const event of keyed) {
    if (event.number > seen) return next && next.number < event.number ? next : event;
  }
  return next;
}
