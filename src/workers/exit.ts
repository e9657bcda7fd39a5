import { WorkerError } from "../errors.ts";
import type { WorkerExit } from "./launch.ts";
import { readLogTail } from "./log-tail.ts";
import type { WorkerStatus } from "./task.ts";

/** Why this process killed a worker. */
export interface FatalProblem {
  readonly problem: string;
  /** Nothing has been heard of it. */
  readonly isLost: boolean;
  readonly options?: ErrorOptions | undefined;
}

/** How the process of a worker ended that was not killed on purpose. */
export function describeExit({ exitCode, signal, problem }: WorkerExit, { state, taskId }: WorkerStatus): string {
  if (problem !== undefined) {
    if (state === "starting") return `could not be started: ${problem}`;
    return `was lost${taskId === null ? "" : ` in ${taskId}`}: ${problem}`;
  }
  const how = signal === undefined ? `exited with code ${exitCode}` : `was ended by ${signal}`;
  const hint = signal === "SIGKILL" ? ", which the kernel also sends when memory runs out" : "";
  if (taskId !== null) return `${how} in ${taskId}${hint}`;
  return state === "starting" ? `${how} before it said hello${hint}` : `${how} between tasks${hint}`;
}

export interface EndedWorker {
  readonly workerId: string;
  readonly host: string | undefined;
  readonly exit: WorkerExit;
  readonly fatal: FatalProblem | undefined;
  /** It had two tasks, and it is unknown which one it was doing. */
  readonly isUncertain: boolean;
  readonly isLost: boolean;
  readonly logPath: string;
}

/** The error of a worker that has ended, with the last lines of its log. */
export async function endError(problem: string, { exit, fatal, ...known }: EndedWorker): Promise<WorkerError> {
  const details = {
    ...known,
    exitCode: exit.exitCode,
    // If this process sent the signal, the problem says why.
    signal: fatal ? undefined : exit.signal,
    logTail: await readLogTail(known.logPath).catch(() => undefined),
  };
  return new WorkerError(problem, details, fatal ? fatal.options : exit.cause && { cause: exit.cause });
}
