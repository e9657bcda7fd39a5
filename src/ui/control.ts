import { spawn, type ChildProcess, type ChildProcessByStdio } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { setTimeout as wait } from "node:timers/promises";
import { parseJson } from "../base/json.ts";
import { packageRoot } from "../installation.ts";
import { visibleText } from "../report/visible.ts";
import { refuseSignal } from "./lock-holder.ts";
import type { RunSummary } from "./messages.ts";
import { isHere } from "./summary.ts";

/** Stops and resumes runs of this machine. */
export interface Control {
  /** Why it was not done; undefined if it was. */
  stop(summary: RunSummary, directory: string): Promise<string | undefined>;
  /** Resolves once the run reports its first event, or is refused. */
  resume(summary: RunSummary, directory: string): Promise<string | undefined>;
  /** Stops the runs that were resumed here, and resolves once their processes have ended. */
  close(): Promise<void>;
}

export function createControl(): Control {
  const children = new Map<ChildProcess, Promise<unknown>>();
  return {
    async stop({ state, holder }, directory) {
      if (state !== "running" || !holder) return "the run is not under way";
      const { host, pid } = holder;
      if (!isHere(holder)) return `the run is held by process ${pid} on ${host}: stop it there`;
      const refusal = await refuseSignal(pid, directory);
      if (refusal !== undefined) return refusal;
      try {
        process.kill(pid, "SIGINT");
        return undefined;
      } catch (error) {
        return `process ${pid} could not be signalled: ${(error as Error).message}`;
      }
    },
    async resume({ state }, directory) {
      if (state !== "interrupted" && state !== "killed" && state !== "failed") return "only a run that was stopped can be resumed";
      // It ends like `prelort … | head` when nobody reads its output any more: if this process is killed, it does not outlive it for long.
      const child = spawn(process.execPath, [path.join(packageRoot(), "dist/cli/main.js"), "resume", directory, "--json"], {
        stdio: ["ignore", "pipe", "pipe"],
        // Ctrl-C in a terminal reaches it once, from here.
        detached: true,
      });
      const { started, refused, ended } = watch(child);
      children.set(
        child,
        ended.finally(() => children.delete(child)),
      );
      return Promise.race([started, refused]);
    },
    async close() {
      for (const child of children.keys()) child.kill("SIGINT");
      await Promise.all(children.values());
    },
  };
}

interface Watched {
  /** Resolves with the first event, which it prints to stdout. */
  readonly started: Promise<undefined>;
  /** Resolves with the end of its complaints, if it ends before. */
  readonly refused: Promise<string>;
  readonly ended: Promise<unknown>;
}

function watch(child: ChildProcessByStdio<null, Readable, Readable>): Watched {
  let complaint = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    process.stderr.write(text);
    complaint = (complaint + text).slice(-COMPLAINT_LENGTH);
  });
  const started = new Promise<undefined>((resolve) => {
    const lines = createInterface({ input: child.stdout }).on("line", (line) => {
      const event = parseJson(line) as { readonly type?: unknown } | null | undefined;
      if (typeof event?.type !== "string" || event.type === "run-failed") return;
      resolve(undefined);
      lines.close();
      child.stdout.resume();
    });
  });
  const ended = new Promise<string | undefined>((resolve) => {
    child.once("exit", () => resolve(undefined));
    child.once("error", (error) => resolve(`prelort resume could not be started: ${error.message}`));
  });
  const refused = ended.then(async (problem) => {
    if (problem !== undefined) return problem;
    // What it wrote last may not have been read yet; a process that it leaves behind may hold the pipe open.
    if (!child.stderr.readableEnded) await Promise.race([once(child.stderr, "end"), wait(LAST_WORDS_MS, undefined, { ref: false })]);
    return visibleText(complaint).trim() || `prelort resume ended with ${child.signalCode ?? `code ${child.exitCode}`}`;
  });
  return { started, refused, ended };
}

/** Enough for the problem and what to do about it. */
const COMPLAINT_LENGTH = 2000;
const LAST_WORDS_MS = 1000;
