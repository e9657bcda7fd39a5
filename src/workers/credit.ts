import { RefusedError } from "../errors.ts";
import { createDeferred, type Deferred } from "../base/deferred.ts";

/** The bytes that may still be sent to one peer. Senders wait until there are enough, in the order in which they ask. */
export interface Credit {
  take(bytes: number): Promise<void>;
  /** Throws a RefusedError when more comes back than was taken. */
  give(bytes: number): void;
  /** Rejects the current and every later `take` with this error. */
  close(error: Error): void;
}

export function createCredit(limit: number): Credit {
  let available = limit;
  let closed: Error | undefined;
  let waiters: readonly { readonly bytes: number; readonly granted: Deferred<void> }[] = [];
  return {
    async take(bytes) {
      if (closed) throw closed;
      if (available >= bytes && waiters.length === 0) {
        available -= bytes;
        return;
      }
      const granted = createDeferred<void>();
      waiters = [...waiters, { bytes, granted }];
      await granted.promise;
    },
    give(bytes) {
      if (available + bytes > limit) throw new RefusedError("credit", `at most the ${limit - available} bytes under way`, `${bytes}`);
      available += bytes;
      for (const waiter of waiters) {
        if (available < waiter.bytes) break;
        available -= waiter.bytes;
        waiters = waiters.filter((other) => other !== waiter);
        waiter.granted.resolve();
      }
    },
    close(error) {
      closed ??= error;
      for (const { granted } of waiters) granted.reject(closed);
    },
  };
}
