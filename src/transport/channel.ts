/** A queue from one writer to one reader. Once closed, it ends after the items pushed before. */
export interface Channel<T> extends AsyncIterable<T> {
  /** Items pushed after `close` are dropped. */
  push(item: T): void;
  close(): void;
}

export function createChannel<T>(): Channel<T> {
  const items: T[] = [];
  let isClosed = false;
  let wake = () => {};

  return {
    push(item) {
      if (!isClosed) items.push(item);
      wake();
    },
    close() {
      isClosed = true;
      wake();
    },
    async *[Symbol.asyncIterator]() {
      while (true) {
        while (items.length > 0) yield items.shift() as T;
        if (isClosed) return;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
  };
}
