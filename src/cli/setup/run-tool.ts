import { execa } from "execa";
import { EnvironmentError, InterruptedError } from "../../errors.ts";
import { pythonEnvironment } from "../../workers/python.ts";

export interface ToolContext {
  readonly signal: AbortSignal;
  readonly problem: string;
  readonly remedy: string;
}

/**
 * Runs a tool such as pip or npm with its output on the terminal (as standard error: it is progress, not a
 * result). What goes wrong is an EnvironmentError that ends with the tool's last words.
 */
export async function runTool(command: string, args: readonly string[], { signal, problem, remedy }: ToolContext): Promise<void> {
  const result = await execa(command, args, {
    reject: false,
    cancelSignal: signal,
    env: pythonEnvironment(),
    stdin: "ignore",
    stdout: process.stderr,
    stderr: ["inherit", "pipe"],
  });
  if (signal.aborted) throw new InterruptedError("the set-up was interrupted; the same command goes on with it");
  if (result.failed) throw new EnvironmentError(`${problem}: ${lastWords(result.stderr) || result.shortMessage}`, remedy);
}

function lastWords(stderr: string): string {
  return stderr.trimEnd().split("\n").slice(-3).join("\n  ").trim();
}
