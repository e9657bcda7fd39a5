import { createDeferred } from "../base/deferred.ts";

/** Upper bound on events buffered for late readers. */
const KEPT = 100_000;

/**
 * Events for any number of readers, each of which gets them from the start. The writer never waits.
 *
 * Memory is bounded: of events with a `key`, only the latest of each key is kept; of the others, the latest 100,000. A reader that
 * has started misses none of these, however slow it is; one that stops reading costs no memory.
 */
export interface EventStream<T> extends AsyncIterable<T> {
  /** With a `key`, only the latest event of that key matters: a reader may miss earlier ones. */
  push(event: T, key?: string): void;
  /** Readers get the events they have not read yet, then the end, or the error. */
  end(error?: unknown): void;
}

interface Numbered<T> {
  readonly event: T;
  readonly number: number;
}

/** Each reader holds a node; nodes before `first` that no reader holds are garbage. */
interface Node<T> extends Partial<Numbered<T>> {
  next?: Node<T> & Numbered<T>;
}

export function createEventStream<T>(): EventStream<T> {
  let first: Node<T> = {};
  let last = first;
  let [length, count] = [0, 0];
  /** By key, in the order of their numbers. */
  const latest = new Map<string, Numbered<T>>();
  let ended: { readonly error?: unknown } | undefined;
  let changed = createDeferred<void>();

  const notify = () => {
    changed.resolve();
    changed = createDeferred();
  };
  const append = (node: Node<T> & Numbered<T>) => {
    last.next = node;
    last = node;
    if (length === KEPT) first = first.next ?? first;
    else length++;
  };
  const nextOf = (node: Node<T>, seen: number): Numbered<T> | undefined => {
    for (const keyed of latest.values()) {
      if (keyed.number > seen) return node.next && node.next.number < keyed.number ? node.next : keyed;
    }
    return node.next;
  };

  return {
    push(event, key) {
      if (ended) return;
      const numbered = { event, number: ++count };
      if (key === undefined) append(numbered);
      else {
        latest.delete(key);
        latest.set(key, numbered);
      }
      notify();
    },
    end(error) {
      ended ??= error === undefined ? {} : { error };
      notify();
    },
    async *[Symbol.asyncIterator]() {
      let node = first;
      let seen = 0;
      while (true) {
        const next = nextOf(node, seen);
        if (next) {
          if (next === node.next) node = node.next;
          seen = next.number;
          yield next.event;
        } else if (ended) break;
        else await changed.promise;
      }
      if ("error" in ended) throw ended.error;
    },
  };
}
