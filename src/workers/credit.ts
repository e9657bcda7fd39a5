import { RefusedError } from "../errors.ts";
import { createDeferred, type Deferred } from "../base/deferred.ts";

/** The bytes that may still be sent to one peer. For a single sender, who waits until there are enough. */
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
  let waiter: { readonly bytes: number; readonly granted: Deferred<void> } | undefined;
  return {
    async take(bytes) {
      if (closed) throw closed;
      if (available < bytes) {
        waiter = { bytes, granted: createDeferred() };
        await waiter.granted.promise;
      }
      available -= bytes;
    },
    give(bytes) {
      if (available + bytes > limit) throw new RefusedError("credit", `at most the ${limit - available} bytes under way`, `${bytes}`);
      available += bytes;
      if (waiter && available >= waiter.bytes) waiter.granted.resolve();
    },
    close(error) {
      closed ??= error;
      waiter?.granted.reject(closed);
    },
  };
}
