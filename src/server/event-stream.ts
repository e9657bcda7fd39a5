/** Kept for a reader who has not come yet; who never comes must not cost memory without end. */
const MAX_UNREAD = 10_000;

/** A queue of events for one reader, who may come late. The writer never waits. */
export interface EventStream<T> extends AsyncIterable<T> {
  /** An event with a `key` takes the place of a queued one with the same key: only the latest state matters. */
  push(event: T, key?: string): void;
  /** The reader gets what is queued, then the end, or the error. */
  end(error?: unknown): void;
}

export function createEventStream<T>(): EventStream<T> {
  let queue: { readonly event: T; readonly key: string | undefined }[] = [];
  let wake: (() => void) | undefined;
  let hasReader = false;
  let ended: { readonly error?: unknown } | undefined;

  const notify = () => {
    wake?.();
    wake = undefined;
  };

  return {
    push(event, key) {
      if (ended) return;
      if (key !== undefined) queue = queue.filter((queued) => queued.key !== key);
      queue.push({ event, key });
      if (!hasReader && queue.length > MAX_UNREAD) queue.shift();
      notify();
    },
    end(error) {
      ended ??= error === undefined ? {} : { error };
      notify();
    },
    async *[Symbol.asyncIterator]() {
      if (hasReader) throw new TypeError("a run's events are for one reader; pass them on from there");
      hasReader = true;
      while (true) {
        const next = queue.shift();
        if (next) yield next.event;
        else if (ended) break;
        else await new Promise<void>((resolve) => (wake = resolve));
      }
      if ("error" in ended) throw ended.error;
    },
  };
}
