import { appendFile, mkdir } from "node:fs/promises";
import path from "node:path";
import { execa } from "execa";
import { EnvironmentError, InterruptedError } from "../errors.ts";
import { cacheFolder, pythonEnvironment } from "../installation.ts";
import type { SetupContext } from "./context.ts";

export interface ToolContext extends Pick<SetupContext, "signal" | "progress"> {
  readonly problem: string;
  readonly remedy: string;
  /** Name of the tool's log inside the cache folder. */
  readonly log?: string;
  /** Added to the environment of every Python. */
  readonly env?: Readonly<Record<string, string>>;
}

/** The log of tools without a log of their own. */
export const SETUP_LOG = "setup.log";

/**
 * Runs a tool such as pip or npm. Its output is reported as progress, line by line, and logged. A failure is an EnvironmentError with
 * the tool's last lines and the path of the log.
 */
export async function runTool(
  command: string,
  args: readonly string[],
  { signal, progress, problem, remedy, log = SETUP_LOG, env = {} }: ToolContext,
): Promise<void> {
  const file = await openLog(log, `$ ${[command, ...args].join(" ")}\n`);
  const output = ["pipe", { file, append: true }] as const;
  const running = execa(command, args, {
    reject: false,
    cancelSignal: signal,
    env: { ...pythonEnvironment(), ...env },
    stdin: "ignore",
    all: true,
    stdout: output,
    stderr: output,
  });
  const reporting = (async () => {
    for await (const line of running.iterable({ from: "all" })) progress(line);
  })();
  const result = await running;
  // A failed process rejects here too, and is reported below.
  await reporting.catch(() => undefined);
  if (signal.aborted) throw new InterruptedError("the set-up was interrupted; run the same command again to continue");
  if (result.failed) {
    const said = lastLines(result.stderr) || lastLines(result.stdout) || result.shortMessage;
    throw new EnvironmentError(`${problem}: ${said}\n  whole log: ${file}`, remedy);
  }
}

async function openLog(name: string, header: string): Promise<string> {
  const file = path.join(cacheFolder(), name);
  try {
    await mkdir(cacheFolder(), { recursive: true });
    await appendFile(file, header);
  } catch (error) {
    const remedy = "make the folder writable, or set PRELORT_CACHE to one that is, then npx prelort setup";
    throw new EnvironmentError(`the set-up cannot write its log ${file}: ${(error as Error).message}`, remedy, { cause: error });
  }
  return file;
}

function lastLines(output: string): string {
  return output.trimEnd().split("\n").slice(-3).join("\n  ").trim();
}
