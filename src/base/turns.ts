import { setImmediate } from "node:timers/promises";

/** Work that stops now and then, so that the event loop can turn. Nothing happens until it is run. */
export type Work<T> = Generator<void, T>;

/** Blocks that are worked through between two stops: 64 MiB of float32. */
export const BLOCKS_A_TURN = 1024;

/** Runs to the end: at once where the work does not stop, else as a promise, and others get their turn at every stop. */
export function inTurns<T>(work: Work<T>): T | Promise<T> {
  const { done, value } = work.next();
  return done ? value : goOn(work);
}

/** What `next` makes of a value; at once, where that is there already. */
export function after<T, U>(value: T | Promise<T>, next: (value: T) => U | Promise<U>): U | Promise<U> {
  return value instanceof Promise ? onceThere(value, next) : next(value);
}

async function onceThere<T, U>(value: Promise<T>, next: (value: T) => U | Promise<U>): Promise<U> {
  return next(await value);
}

async function goOn<T>(work: Work<T>): Promise<T> {
  for (;;) {
    await setImmediate();
    const { done, value } = work.next();
    if (done) return value;
  }
}
