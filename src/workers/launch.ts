import { closeSync, constants, openSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { EnvironmentError } from "../errors.ts";
import type { CurveKeys } from "../transport/transport.ts";
import { assignDevice } from "./devices.ts";
import { cacheFolder, programArguments, pythonEnvironment } from "../installation.ts";

/** Starts worker processes. A worker must connect to `endpoint` with `workerId` as its routing id. */
export interface WorkerLauncher {
  launch(options: LaunchOptions): WorkerProcess;
}

export interface LaunchOptions {
  readonly workerId: string;
  readonly endpoint: string;
  /**
   * Keys to connect with over tcp: `prelort_worker`, started with `--curve`, reads them from the first line of its
   * standard input (see the wire contract). Anyone who reads the secret key can impersonate this worker.
   */
  readonly curve?: CurveKeys | undefined;
  /** `cpu`, `mps` or `cuda:N`. */
  readonly device: string;
  /** Torch threads. */
  readonly threads: number;
  /** Where its standard output and error go. */
  readonly logPath: string;
}

export interface WorkerProcess {
  /** Set for a process on this machine, with which memory can be shared; without it tensors go through the transport alone. */
  readonly pid?: number | undefined;
  /** Resolves once the process is gone; never rejects. */
  readonly exited: Promise<WorkerExit>;
  /** Ends the process and its children at once, stopped ones too. Does nothing once it is gone. */
  kill(): void;
}

export interface WorkerExit {
  readonly exitCode?: number | undefined;
  readonly signal?: string | undefined;
  /** Why it could not even be started. */
  readonly problem?: string | undefined;
}

export interface ProcessLauncherOptions {
  /** The program: a Python interpreter, or whatever runs a worker of your own. */
  readonly command: string;
  /** Arguments before the options of the wire contract; by default they run `prelort_worker`. */
  readonly args?: readonly string[];
}

/**
 * Workers as processes on this machine. Each leads a process group of its own, so that Ctrl-C in a terminal
 * reaches the controller alone. It exits when its parent does (see the wire contract), which it detects by its standard
 * input, a pipe that remains open. Only keys are written to that pipe, since other users of the machine can read command
 * lines. It has this process's environment except for the user's PYTHON* variables, with PYTHONPATH set to the folder of
 * `prelort_worker`.
 */
export function processLauncher({ command, args = programArguments("__main__") }: ProcessLauncherOptions): WorkerLauncher {
  return {
    launch({ workerId, endpoint, curve, device, threads, logPath }) {
      const assigned = assignDevice(device);
      const options = { endpoint, "worker-id": workerId, "parent-pid": process.pid, device: assigned.device, threads };
      // execa takes any descriptor, its types only those up to 9.
      const log = openLog(logPath) as 9;
      try {
        const subprocess = execa(command, [...args, ...toArguments(options), ...(curve ? ["--curve"] : [])], {
          env: { ...workerEnvironment(threads), ...assigned.env },
          stdin: "pipe",
          stdout: log,
          stderr: log,
          buffer: false,
          detached: true,
          reject: false,
        });
        if (curve) subprocess.stdin.write(`${JSON.stringify(toLine(curve))}\n`);
        let isGone = false;
        const hasExited = new Promise<WorkerExit>((resolve) => {
          subprocess.once("exit", (exitCode, signal) => {
            isGone = true;
            resolve({ exitCode: exitCode ?? undefined, signal: signal ?? undefined });
          });
        });
        // execa's own promise also waits for the pipe, which children of the worker may hold open.
        const hasNotStarted = subprocess.then(({ originalMessage }) =>
          subprocess.pid === undefined ? { problem: originalMessage } : hasExited,
        );
        return {
          pid: subprocess.pid,
          exited: Promise.race([hasExited, hasNotStarted]),
          kill() {
            if (subprocess.pid !== undefined && !isGone) killGroup(subprocess.pid);
          },
        };
      } finally {
        closeSync(log);
      }
    },
  };
}

function toArguments(options: Readonly<Record<string, string | number>>): string[] {
  return Object.entries(options).flatMap(([name, value]) => [`--${name}`, `${value}`]);
}

function toLine({ serverKey, publicKey, secretKey }: CurveKeys): Record<string, string> {
  return { server_key: serverKey, public_key: publicKey, secret_key: secretKey };
}

function killGroup(leader: number): void {
  try {
    process.kill(-leader, "SIGKILL");
  } catch {
    // It is ending at this moment.
  }
}

function workerEnvironment(threads: number): Record<string, string | undefined> {
  const count = `${threads}`;
  return {
    ...pythonEnvironment(),
    OMP_NUM_THREADS: count,
    MKL_NUM_THREADS: count,
    OPENBLAS_NUM_THREADS: count,
    VECLIB_MAXIMUM_THREADS: count,
    // Otherwise torch leaves a folder in the temporary folder.
    TORCHINDUCTOR_CACHE_DIR: process.env["TORCHINDUCTOR_CACHE_DIR"] ?? join(cacheFolder(), "torchinductor"),
    // Rust threads of the tokenizers would take the cores of other workers.
    TOKENIZERS_PARALLELISM: "false",
  };
}

/** Does not follow a link or wait for a pipe: a run directory from elsewhere may contain either. */
function openLog(logPath: string): number {
  try {
    return openSync(logPath, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (cause) {
    throw new EnvironmentError(`${logPath} could not be written: ${(cause as Error).message}`, "make sure it is a writable file", {
      cause,
    });
  }
}
