/** A queue of events for one reader: nothing is lost before the reader comes, and the writer never waits. */
export interface EventStream<T> extends AsyncIterable<T> {
  /** An event with a `key` takes the place of a queued one with the same key: only the latest state matters. */
  push(event: T, key?: string): void;
  /** The reader gets what is queued, then the end, or the error. */
  end(error?: unknown): void;
}

export function createEventStream<T>(): EventStream<T> {
  let queue: { readonly event: T; readonly key: string | undefined }[] = [];
  let wake: (() => void) | undefined;
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
      notify();
    },
    end(error) {
      ended ??= error === undefined ? {} : { error };
      notify();
    },
    async *[Symbol.asyncIterator]() {
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
