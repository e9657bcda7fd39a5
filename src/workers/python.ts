import { existsSync, readlinkSync } from "node:fs";
import { delimiter, isAbsolute, join, resolve } from "node:path";
import { execa } from "execa";
import { z } from "zod";
import { EnvironmentError } from "../errors.ts";
import { parseJson } from "../base/json.ts";
import { environmentPython, pythonEnvironment, workersFolder } from "../installation.ts";

const described = z.object({ version: z.tuple([z.number(), z.number()]), missing: z.array(z.string()) });

/** Refuses an interpreter that cannot run a worker (too old, or without its packages), and says what to do. */
export async function requirePython(python: string): Promise<void> {
  const result = await execa(python, [join(workersFolder(), "describe.py")], {
    env: pythonEnvironment(),
    reject: false,
    timeout: 120_000,
  });
  if (result.failed) throw new EnvironmentError(`${python} cannot be run: ${causeOf(result)}`, REMEDY);
  const { data: found } = described.safeParse(parseJson(result.stdout));
  if (!found) {
    const said = JSON.stringify(result.stdout.slice(0, 200));
    throw new EnvironmentError(`${python} is not a Python interpreter: asked for its version, it answered ${said}`, REMEDY);
  }
  const [major, minor] = found.version;
  if (major < 3 || (major === 3 && minor < 10)) {
    throw new EnvironmentError(`${python} is Python ${major}.${minor}; 3.10 or later is needed`, REMEDY);
  }
  if (found.missing.length > 0) throw new EnvironmentError(`${python} lacks ${found.missing.join(", ")}`, REMEDY);
}

interface Failed {
  readonly stderr: string;
  readonly exitCode?: number | undefined;
  readonly signal?: string | undefined;
  readonly timedOut: boolean;
  readonly originalMessage?: string | undefined;
}

/** Why a program failed: how it ended and the last lines of its standard error, or why it could not be started. */
function causeOf({ stderr, exitCode, signal, timedOut, originalMessage = "" }: Failed): string {
  const words = stderr.trimEnd().split("\n").slice(-5).join("\n  ").trim();
  if (timedOut) return "it did not answer within two minutes";
  if (exitCode === undefined && signal === undefined) return originalMessage;
  return `it ended with ${signal ?? `exit code ${exitCode}`}${words && `: ${words}`}`;
}

const REMEDY = "leave workers.python out and run: npx prelort setup";

/** The workers' interpreter: the configured one (a path, or a name on PATH), else the one that `prelort setup` installed. */
export function findPython(asked?: string): string {
  if (asked === undefined) {
    const made = environmentPython();
    if (existsSync(made)) return made;
    throw new EnvironmentError(`no Python environment for the workers: ${whatOf(made)}`, "npx prelort setup");
  }
  const found = candidates(asked).find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new EnvironmentError(`workers.python: ${whatOf(asked)}`, "correct workers.python, or leave it out and run: npx prelort setup");
}

/** An environment is left with a broken link when the Python that it was made from is removed. */
function whatOf(python: string): string {
  try {
    return `${python} links to ${readlinkSync(python)}, which does not exist`;
  } catch {
    return `${python} does not exist`;
  }
}

function candidates(asked: string): string[] {
  if (isAbsolute(asked) || asked.includes("/")) return [resolve(asked)];
  return (process.env["PATH"] ?? "")
    .split(delimiter)
    .filter(isAbsolute) // relative ones depend on the working folder
    .map((folder) => join(folder, asked));
}
