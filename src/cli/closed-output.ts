import process from "node:process";
import { complain } from "./output.ts";

/*
 * Whoever read the output is gone (`prelort run … --json | head -1`), or the terminal is, or the disk is full. What is under way is
 * stopped in order, as at Ctrl-C, and the exit code is that of a process ended by SIGPIPE; of a full disk, that of the environment.
 */

const CLOSED = new Set<string | undefined>(["EPIPE", "EIO"]);
const [CLOSED_CODE, ENVIRONMENT_CODE] = [141, 3];

let exitCode: number | undefined;
const stops = new Set<() => void>();

/** Ends this process once its output cannot be written: at once, or when what `onOutputClosed` stops has ended. */
export function watchOutput(): void {
  const close = (error: NodeJS.ErrnoException) => {
    // Every later write fails as well.
    if (exitCode !== undefined) return;
    const isClosed = CLOSED.has(error.code);
    exitCode = isClosed ? CLOSED_CODE : ENVIRONMENT_CODE;
    process.exitCode = exitCode;
    if (!isClosed) complain(`prelort: its output could not be written: ${error.message}`);
    if (stops.size === 0) process.exit();
    for (const stop of stops) stop();
  };
  process.stdout.on("error", close);
  process.stderr.on("error", close);
}

/** Once the output could not be written: what this process exits with, whatever else comes. */
export function closedOutputCode(): number | undefined {
  return exitCode;
}

/** Has `stop` called once the output can be written no more. Gives what takes that back. */
export function onOutputClosed(stop: () => void): () => void {
  stops.add(stop);
  return () => void stops.delete(stop);
}
