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
  /** Readers get the events they have not read yet, then the end, or the error. */
  end(error?: unknown): void;
  read(options?: ReadOptions): AsyncIterable<T>;
}

export interface ReadOptions {
  /** Only events with higher numbers, for a reader that has seen earlier ones. All by default. */
  readonly after?: number | undefined;
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
  let ended: { readonly error?: unknown } | undefined;
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
  const nextOf = (node: Node<T>, seen: number): T | undefined => {
    const next = node.next?.event;
    for (const keyed of latest.values()) {
      if (keyed.number > seen) return next && next.number < keyed.number ? next : keyed;
    }
    return next;
  };

  async function* read({ after = 0 }: ReadOptions = {}): AsyncGenerator<T, void> {
    let node = first;
    let seen = after;
    while (true) {
      while (node.next && node.next.event.number <= seen) node = node.next;
      const next = nextOf(node, seen);
      if (next) {
        seen = next.number;
        yield next;
      } else if (ended) break;
      else await changed.promise;
    }
    if ("error" in ended) throw ended.error;
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
    end(error) {
      ended ??= error === undefined ? {} : { error };
      notify();
    },
    read,
  };
}
