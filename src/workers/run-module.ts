import process from "node:process";
import { execa } from "execa";
import { z } from "zod";
import { EnvironmentError, InterruptedError, RunFailedError } from "../errors.ts";
import { parseJson } from "../base/json.ts";
import { programArguments, type PythonProgram, pythonEnvironment } from "../installation.ts";

const answerSchema = z.union([z.strictObject({ remarks: z.array(z.string()) }), z.strictObject({ error: z.string() })]);

export interface ModuleRun {
  /** The interpreter. */
  readonly python: string;
  readonly program: PythonProgram;
  /** Written as the first line of its standard input. */
  readonly request: unknown;
  /** What failed, in an error's message. */
  readonly purpose: string;
  readonly signal?: AbortSignal | undefined;
}

/** Runs a Python program with a single request: a line of JSON in, `{ remarks }` or `{ error }` out. */
export async function runModule(run: ModuleRun): Promise<readonly string[]> {
  const answer = await askModule(run, answerSchema);
  if ("error" in answer) throw new RunFailedError(`${run.purpose} failed: ${answer.error}`);
  return answer.remarks;
}

/**
 * Runs a Python program with a line of JSON in and one out. It ends when this process does, in whatever way: its standard
 * input remains open until then (see the wire contract).
 */
export async function askModule<T>({ python, program, request, purpose, signal }: ModuleRun, schema: z.ZodType<T>): Promise<T> {
  signal?.throwIfAborted();
  const subprocess = execa(python, [...programArguments(program), "--parent-pid", `${process.pid}`], {
    env: { ...pythonEnvironment(), TOKENIZERS_PARALLELISM: "false" },
    stdin: "pipe",
    ...(signal && { cancelSignal: signal }),
    reject: false,
  });
  // If it ended before it read the request, its exit says why.
  subprocess.stdin.on("error", () => {});
  subprocess.stdin.write(`${JSON.stringify(request)}\n`);
  const { stdout, stderr, failed, shortMessage } = await subprocess;
  if (signal?.aborted) throw new InterruptedError(`${purpose} was interrupted`);
  const { data: answer } = schema.safeParse(parseJson(stdout));
  if (!failed && answer !== undefined) return answer;
  if (subprocess.pid === undefined) throw new EnvironmentError(`${python} cannot be run: ${shortMessage}`, "npx prelort setup");
  throw new RunFailedError(`${purpose} failed: ${shortMessage}\n${lastLines(stderr)}`);
}

function lastLines(text: string): string {
  return text.trimEnd().split("\n").slice(-20).join("\n").replace(/^/gm, "    ");
}
