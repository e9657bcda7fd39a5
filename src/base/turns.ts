import { setImmediate } from "node:timers/promises";

/** Work that yields from time to time, so that the event loop can run. It starts when it is first advanced. */
export type Work<T> = Generator<void, T>;

/** Blocks processed between two yields: 64 MiB of float32. */
export const BLOCKS_A_TURN = 1024;

/** Runs work to its end: synchronously if it never yields, else as a promise that lets the event loop run at every yield. */
export function inTurns<T>(work: Work<T>): T | Promise<T> {
  const { done, value } = work.next();
  return done ? value : finish(work);
}

/** Applies `next` to a value: synchronously unless the value is a promise. */
export function after<T, U>(value: T | Promise<T>, next: (value: T) => U | Promise<U>): U | Promise<U> {
  return value instanceof Promise ? onceResolved(value, next) : next(value);
}

async function onceResolved<T, U>(value: Promise<T>, next: (value: T) => U | Promise<U>): Promise<U> {
  return next(await value);
}

async function finish<T>(work: Work<T>): Promise<T> {
  for (;;) {
    await setImmediate();
    const { done, value } = work.next();
    if (done) return value;
  }
}
