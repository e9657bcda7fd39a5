import { once } from "node:events";
import { createInterface } from "node:readline";
import process from "node:process";
import { execa } from "execa";
import { z } from "zod";
import { snakeKeys } from "../base/case.ts";
import { parseJson } from "../base/json.ts";
import type { TrackerSpec } from "../config/track-section.ts";
import { programArguments, pythonEnvironment, trackerPython } from "../installation.ts";
import type { Ending } from "./ending.ts";

const report = z.discriminatedUnion("type", [
  z.object({ type: z.literal("open"), round: z.number() }),
  z.object({ type: z.literal("delivered"), round: z.number() }),
  z.object({ type: z.literal("behind"), message: z.string() }),
  z.object({ type: z.literal("closed") }),
]);

/** What the process of a tracker says: how far it is, or why not further. */
export type TrackerReport = z.output<typeof report>;

export interface TrackerProcess {
  /** Settles when it has ended, with the last lines of its standard error. */
  readonly exited: Promise<string>;
  /** It delivers what is left, and ends. */
  end(ending: Ending): void;
  /** Ends it with its group, after a moment in which it removes what it has half made. */
  kill(): void;
}

/**
 * Starts the process that delivers one run to one tracker. It ends itself when this process does. It leads a process group, so that
 * Ctrl-C reaches the controller alone and its client's own processes end with it.
 */
export function startTracker(spec: TrackerSpec, directory: string, onReport: (report: TrackerReport) => void): TrackerProcess {
  const args = [...trackerArguments("deliver", spec, directory), "--parent-pid", `${process.pid}`];
  const subprocess = execa(trackerPython(spec.name), args, {
    env: pythonEnvironment(),
    stdin: "pipe",
    stdout: "pipe",
    stderr: "pipe",
    buffer: false,
    detached: true,
    reject: false,
  });
  // It may end while it is written to.
  subprocess.stdin.on("error", () => undefined);
  const reports = createInterface({ input: subprocess.stdout }).on("line", (line) => {
    const { data } = report.safeParse(parseJson(line));
    if (data) onReport(data);
  });
  const said: string[] = [];
  createInterface({ input: subprocess.stderr }).on("line", (line) => {
    said.push(line);
    if (said.length > KEPT_LINES) said.shift();
  });
  let isGone = false;
  const killGroup = () => {
    if (isGone || subprocess.pid === undefined) return;
    try {
      process.kill(-subprocess.pid, "SIGKILL");
    } catch {
      // All of it has ended.
    }
  };
  const exit = new Promise((resolve) => subprocess.once("exit", resolve));
  const hasExited = Promise.all([exit, once(reports, "close")]).then(() => {
    isGone = true;
    return said.join("\n");
  });
  // Processes of the client may hold standard error open, which execa's own promise waits for.
  const hasNotStarted = subprocess.then(({ originalMessage }) => (subprocess.pid === undefined ? (originalMessage ?? "") : hasExited));
  return {
    exited: Promise.race([hasExited, hasNotStarted]),
    end(ending) {
      if (!isGone) subprocess.stdin.write(`${JSON.stringify(ending)}\n`);
    },
    kill() {
      if (isGone || subprocess.pid === undefined) return;
      subprocess.kill("SIGTERM");
      const timer = setTimeout(killGroup, TIDYING_MS);
      subprocess.once("exit", () => {
        clearTimeout(timer);
        killGroup();
      });
    },
  };
}

/** What makes the interpreter of a tracker check it, or deliver a run to it. */
export function trackerArguments(what: "check" | "deliver", { name, ...options }: TrackerSpec, directory = "."): readonly string[] {
  const given = JSON.stringify(snakeKeys(options));
  return [...programArguments("tracking.__main__"), what, "--name", name, "--options", given, "--directory", directory];
}

const KEPT_LINES = 5;
const TIDYING_MS = 2000;
