import { closeSync, constants, openSync, writeSync } from "node:fs";
import { EnvironmentError } from "../errors.ts";

/** Opens a worker's log to append to it. Does not follow a link or wait for a pipe: a run directory from elsewhere may contain either. */
export function openLog(logPath: string): number {
  try {
    return openSync(logPath, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (cause) {
    throw new EnvironmentError(`${logPath} could not be written: ${(cause as Error).message}`, "check that it can be written to", {
      cause,
    });
  }
}

/** Appends text to a worker's log. */
export function appendLog(logPath: string, text: string): void {
  const log = openLog(logPath);
  try {
    writeSync(log, text);
  } finally {
    closeSync(log);
  }
}
