import { RefusedError } from "../errors.ts";

/** The bytes that may still be sent to one peer. For one sender, who waits until they are enough. */
export interface Credit {
  take(bytes: number): Promise<void>;
  /** Throws a RefusedError when more comes back than was taken. */
  give(bytes: number): void;
  /** Whoever waits, now or later, gets this error. */
  close(error: Error): void;
}

export function createCredit(limit: number): Credit {
  let available = limit;
  let closed: Error | undefined;
  let wake = () => {};
  return {
    async take(bytes) {
      while (available < bytes && !closed) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      if (closed) throw closed;
      available -= bytes;
    },
    give(bytes) {
      if (available + bytes > limit) throw new RefusedError("credit", `at most the ${limit - available} bytes under way`, `${bytes}`);
      available += bytes;
      wake();
    },
    close(error) {
      closed ??= error;
      wake();
    },
  };
}
