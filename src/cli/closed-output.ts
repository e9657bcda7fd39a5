import process from "node:process";
import { complain } from "./output.ts";

/*
 * The reader of the output is gone (`prelort run … --json | head -1`), the terminal is closed, or the disk is full. The command is
 * stopped in order, as by Ctrl-C. The exit code is that of a process ended by SIGPIPE, or for a full disk that of the environment.
 */

const CLOSED = new Set<string | undefined>(["EPIPE", "EIO"]);
const [CLOSED_CODE, ENVIRONMENT_CODE] = [141, 3];

let exitCode: number | undefined;
const stops = new Set<() => void>();

/** Ends this process if its output cannot be written: at once, or after everything that `onOutputClosed` stops has ended. */
export function watchOutput(): void {
  const close = (error: NodeJS.ErrnoException) => {
    // Every later write fails, too.
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

/** The exit code of this process if its output could not be written, whatever happens later. */
export function closedOutputCode(): number | undefined {
  return exitCode;
}

/** Calls `stop` if the output cannot be written any more. Returns a function that cancels this. */
export function onOutputClosed(stop: () => void): () => void {
  stops.add(stop);
  return () => void stops.delete(stop);
}
