import { z } from "zod";
import { check } from "../config/check.ts";
import { readJsonLines } from "../base/read-file.ts";
import { PrelortError } from "../errors.ts";
import { type LineLog, openLineLog } from "./line-log.ts";
import { count, describeProblems } from "./schema.ts";

/* `timings.jsonl`: how long each phase took. Only this file and `events.jsonl` hold times. */

const timing = z.object({ round: count, phase: z.string(), seconds: z.number().nonnegative() }).readonly();

export type Timing = z.output<typeof timing>;

/** Opens timings to append to, after their first `keep` bytes. */
export function openTimings(file: string, keep?: number): LineLog<Timing> {
  return openLineLog(file, { keep, encode: (entry) => entry });
}

/** Reads the timings of a run; an absent file has none. Throws a PrelortError that names the first damaged line. */
export async function readTimings(file: string): Promise<readonly Timing[]> {
  const timings: Timing[] = [];
  await readJsonLines(file, ({ number, value }) => {
    const { value: entry, problems } = check(timing, value, "snake_case");
    if (problems) {
      const problem = `${file}:${number} is damaged: ${describeProblems(problems)}`;
      throw new PrelortError("run", `${problem}; remove the line to continue without it`);
    }
    timings.push(entry);
  });
  return timings;
}

/** Measures how long each phase of a run takes. */
export interface Stopwatch {
  /** Writes the time since the last lap. */
  lap(round: number, phase: string): void;
}

export function createStopwatch(timings: Pick<LineLog<Timing>, "append">): Stopwatch {
  let last = performance.now();
  return {
    lap(round, phase) {
      const now = performance.now();
      timings.append({ round, phase, seconds: (now - last) / 1000 });
      last = now;
    },
  };
}
