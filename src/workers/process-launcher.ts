import { closeSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { execa } from "execa";
import { createDeferred } from "../base/deferred.ts";
import { cacheFolder, programArguments, pythonEnvironment } from "../installation.ts";
import { ConfigError } from "../errors.ts";
import { isPublicKey } from "../transport/keys.ts";
import { assignDevice } from "./devices.ts";
import type { LaunchOptions, WorkerExit, WorkerLauncher } from "./launch.ts";
import { openLog } from "./worker-log.ts";

export interface ProcessLauncherOptions {
  /** The program: a Python interpreter, or whatever runs a worker of your own. */
  readonly command: string;
  /** What it runs, before the options of the wire contract; by default `prelort_worker`. */
  readonly args?: readonly string[];
  /**
   * A command that runs the program on another machine, or in another way: `["ssh", "{host}"]`, `["srun", "-n1"]`,
   * `["nice"]`. It must pass standard input, output and error on, and stop the program when it is stopped itself.
   */
  readonly through?: readonly string[] | undefined;
  /** What `{host}` in `through` stands for, in rotation. `{worker}` is the worker's id, such as `w0`, or `w0.1` for the one after it. */
  readonly hosts?: readonly string[] | undefined;
}

/** What a worker over tcp writes to its standard output, followed by its public key. */
const KEY_LINE = /prelort-key (\S{40})\r?\n/;
/** Other output is kept at most this long while the key is looked for. */
const MAX_LINE_LENGTH = 4096;
/** How long a command has to clean up, such as to cancel a job in a queue. */
const CLEAN_UP_MS = 2000;

/**
 * Workers as processes that this one starts. Each leads a process group of its own, so that Ctrl-C in a terminal reaches
 * the controller alone. It ends itself when its parent does, for which its standard input is a pipe that stays open
 * (see the wire contract). It has this process's environment except for the user's PYTHON* variables, with PYTHONPATH set
 * to the folder of `prelort_worker`.
 */
export function processLauncher({ command, args = programArguments("__main__"), through, hosts }: ProcessLauncherOptions): WorkerLauncher {
  return {
    isRemote: through !== undefined,
    launch(options) {
      const { serverKey, threads } = options;
      // A command's program may run on another machine: it shares no memory, and this environment does not reach it.
      const { device, env } = through ? { device: options.device, env: {} } : assignDevice(options.device);
      const host = hostOf(options.index, hosts);
      const prefix = through?.map((word) => fill(word, { host, worker: options.workerId })) ?? [];
      const [file = command, ...words] = [...prefix, command, ...args, ...wireOptions({ ...options, device }, through !== undefined)];
      const log = openLog(options.logPath);
      try {
        const subprocess = execa(file, words, {
          env: { ...workerEnvironment(threads), ...env },
          stdin: "pipe",
          // execa takes any descriptor, its types only those up to 9.
          stdout: serverKey === undefined ? (log as 9) : "pipe",
          stderr: log as 9,
          buffer: false,
          detached: true,
          reject: false,
        });
        if (serverKey !== undefined) subprocess.stdin.write(`${JSON.stringify({ server_key: serverKey })}\n`);
        let [isGone, isKilled] = [false, false];
        const hasExited = new Promise<WorkerExit>((resolve) => {
          subprocess.once("exit", (exitCode, signal) => {
            isGone = true;
            // What a command has left behind, such as a program that ignores SIGTERM.
            if (isKilled && subprocess.pid !== undefined) endGroup(subprocess.pid, "SIGKILL");
            // A child of the command may keep the pipe open, which must not keep this process alive.
            (subprocess.stdout as { unref?(): void } | null)?.unref?.();
            resolve({ exitCode: exitCode ?? undefined, signal: signal ?? undefined, host: host || undefined });
          });
        });
        // execa's own promise also waits for the pipes, which children of the worker may hold open.
        const hasNotStarted = subprocess.then(({ originalMessage, code }) => {
          if (subprocess.pid !== undefined) return hasExited;
          if (!through || code !== "ENOENT") return { problem: originalMessage };
          const problem = `there is no program ${file} on this machine`;
          return { problem, cause: new ConfigError([{ path: "workers.command", message: problem }]) };
        });
        return {
          pid: through ? undefined : subprocess.pid,
          publicKey: subprocess.stdout ? readPublicKey(subprocess.stdout, options.logPath) : undefined,
          exited: Promise.race([hasExited, hasNotStarted]),
          kill() {
            const { pid } = subprocess;
            if (pid === undefined || isGone) return;
            isKilled = true;
            if (!through) return endGroup(pid, "SIGKILL");
            endGroup(pid, "SIGTERM");
            setTimeout(() => isGone || endGroup(pid, "SIGKILL"), CLEAN_UP_MS).unref();
          },
        };
      } finally {
        closeSync(log);
      }
    },
  };
}

/** The worker's options in the wire contract. */
function wireOptions({ endpoint, workerId, device, threads, serverKey, lease }: LaunchOptions, isElsewhere: boolean): string[] {
  const options = {
    endpoint,
    "worker-id": workerId,
    ...(isElsewhere ? {} : { "parent-pid": process.pid }),
    device,
    threads,
    ...(serverKey === undefined ? {} : { lease }),
  };
  const words = Object.entries(options).flatMap(([name, value]) => [`--${name}`, `${value}`]);
  return serverKey === undefined ? words : [...words, "--curve"];
}

function hostOf(index: number, hosts: readonly string[] = []): string {
  return hosts[index % hosts.length] ?? "";
}

/** Whatever else is printed, such as the greeting of a login shell, goes to the log. Never settles without a key. */
function readPublicKey(stdout: Readable, logPath: string): Promise<string> {
  const publicKey = createDeferred<string>();
  const log = openLog(logPath);
  let recent = "";
  stdout.on("data", (data: Buffer) => {
    recent = (recent + data.toString("latin1")).slice(-MAX_LINE_LENGTH);
    const key = KEY_LINE.exec(recent)?.[1];
    if (key !== undefined && isPublicKey(key)) publicKey.resolve(key);
    try {
      writeSync(log, data.toString("latin1").replace(KEY_LINE, "\n"), null, "latin1");
    } catch {
      // The disk is full: the worker's own errors say more.
    }
  });
  stdout.once("close", () => closeSync(log));
  stdout.on("error", () => {});
  return publicKey.promise;
}

function fill(word: string, { host, worker }: { readonly host: string; readonly worker: string }): string {
  return word.replaceAll("{host}", host).replaceAll("{worker}", worker);
}

export function endGroup(leader: number, signal: "SIGTERM" | "SIGKILL"): void {
  try {
    process.kill(-leader, signal);
  } catch {
    // It is ending at this moment.
  }
}

export function workerEnvironment(threads: number): Record<string, string | undefined> {
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
