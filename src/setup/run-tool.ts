import { appendFile, mkdir } from "node:fs/promises";
import path from "node:path";
import { execa } from "execa";
import { EnvironmentError, InterruptedError } from "../errors.ts";
import { cacheFolder, pythonEnvironment } from "../installation.ts";
import type { SetupContext } from "./context.ts";

export interface ToolContext extends Pick<SetupContext, "signal" | "progress"> {
  readonly problem: string;
  readonly remedy: string;
  /** Name of its log inside the cache folder. */
  readonly log?: string;
  /** Added to what every Python is started with. */
  readonly env?: Readonly<Record<string, string>>;
}

/** Of all tools that need none of their own. */
export const SETUP_LOG = "setup.log";

/**
 * Runs a tool such as pip or npm. What it says is progress, line by line, and goes to a log. What goes wrong is an
 * EnvironmentError that ends with the tool's last words and names the log.
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
  const telling = (async () => {
    for await (const line of running.iterable({ from: "all" })) progress(line);
  })();
  const result = await running;
  // It ends as the process does, and how that ended is in the result.
  await telling.catch(() => undefined);
  if (signal.aborted) throw new InterruptedError("the set-up was interrupted; the same command goes on with it");
  if (result.failed) {
    const said = lastWords(result.stderr) || lastWords(result.stdout) || result.shortMessage;
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

function lastWords(output: string): string {
  return output.trimEnd().split("\n").slice(-3).join("\n  ").trim();
}
