import type { LineLog } from "./durable-file.ts";

/** Tells how long each phase of a run took. */
export interface Stopwatch {
  /** Writes what has passed since the last lap. */
  lap(round: number, phase: string): void;
}

export function createStopwatch(timings: LineLog): Stopwatch {
  let last = performance.now();
  return {
    lap(round, phase) {
      const now = performance.now();
      timings.append({ round, phase, seconds: (now - last) / 1000 });
      last = now;
    },
  };
}
