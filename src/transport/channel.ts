/** A queue between one who pushes and one who iterates. Ends, after what was pushed before, once it is closed. */
export interface Channel<T> extends AsyncIterable<T> {
  /** What is pushed after the end is dropped. */
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
