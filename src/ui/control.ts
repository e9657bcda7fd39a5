import { spawn, type ChildProcess } from "node:child_process";
import path from "node:path";
import process from "node:process";
import { packageRoot } from "../installation.ts";
import type { RunSummary } from "./messages.ts";
import { isHere } from "./summary.ts";

/** Stops and resumes runs of this machine. */
export interface Control {
  /** Why it was not done; undefined if it was. */
  stop(summary: RunSummary): string | undefined;
  resume(summary: RunSummary, directory: string): string | undefined;
  /** Stops the runs that were resumed here, and resolves once their processes have ended. */
  close(): Promise<void>;
}

export function createControl(): Control {
  const children = new Map<ChildProcess, Promise<void>>();
  return {
    stop({ state, holder }) {
      if (state !== "running" || !holder) return "the run is not under way";
      if (!isHere(holder)) return `the run is held by process ${holder.pid} on ${holder.host}: stop it there`;
      try {
        process.kill(holder.pid, "SIGINT");
        return undefined;
      } catch (error) {
        return `process ${holder.pid} could not be signalled: ${(error as Error).message}`;
      }
    },
    resume({ state }, directory) {
      if (state !== "interrupted" && state !== "killed" && state !== "failed") return "only a run that was stopped can be resumed";
      // It ends like `prelort … | head` when nobody reads its output any more: if this process is killed, it does not outlive it for long.
      const child = spawn(process.execPath, [path.join(packageRoot(), "dist/cli/main.js"), "resume", directory, "--json"], {
        stdio: ["ignore", "pipe", "inherit"],
        // Ctrl-C in a terminal reaches it once, from here.
        detached: true,
      });
      child.stdout.resume();
      const ended = new Promise<void>((resolve) => {
        child.once("exit", () => resolve());
        child.once("error", () => resolve());
      }).finally(() => children.delete(child));
      children.set(child, ended);
      return undefined;
    },
    async close() {
      for (const child of children.keys()) child.kill("SIGINT");
      await Promise.all(children.values());
    },
  };
}
