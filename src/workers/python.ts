import { existsSync, readFileSync, readlinkSync } from "node:fs";
import { delimiter, isAbsolute, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import envPaths from "env-paths";
import { execa } from "execa";
import { z } from "zod";
import { EnvironmentError } from "../errors.ts";
import { parseJson } from "../base/json.ts";

/** Where this package lies: the folder of its package.json, both in a checkout and when installed. */
export function packageRoot(): string {
  return fileURLToPath(new URL("../..", import.meta.url)).replace(/[/\\]$/, "");
}

/** prelort's own version. */
export function packageVersion(): string {
  const manifest = JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8")) as { version: string };
  return manifest.version;
}

/** The user's folder for models, data and the Python environment; PRELORT_CACHE puts it elsewhere. */
export function cacheFolder(): string {
  const chosen = process.env["PRELORT_CACHE"];
  return chosen ? resolve(chosen) : envPaths("prelort", { suffix: "" }).cache;
}

/** Where `prelort setup` makes the Python environment: in a checkout beside its sources, else in the cache folder. */
export function environmentFolder(): string {
  const isCheckout = existsSync(join(packageRoot(), "tsconfig.json"));
  return isCheckout ? join(packageRoot(), ".venv") : join(cacheFolder(), "venv");
}

/** The environment's interpreter, whether or not it is there. */
export function environmentPython(): string {
  return join(environmentFolder(), "bin", "python");
}

/** The folder that holds the Python package `prelort_worker`. */
export function workersFolder(): string {
  return join(packageRoot(), "workers");
}

/** Programs of `prelort_worker`: what a worker runs, and those that do one thing. */
export type PythonProgram = "__main__" | "export" | "gguf" | "pretrain" | "unchanged";

/**
 * What makes an interpreter run a program: workers/run.py and the program's module. A script, and not `-m`, which
 * imports from the working folder first.
 */
export function programArguments(program: PythonProgram): readonly string[] {
  return [join(workersFolder(), "run.py"), `prelort_worker.${program}`];
}

/**
 * The variables, for execa, of every Python that prelort starts. None of the user's own PYTHON* gets there: PYTHONHOME
 * and PYTHONPATH decide what is imported, PYTHONINSPECT and PYTHONWARNINGS how a program ends.
 */
export function pythonEnvironment(): Readonly<Record<string, string | undefined>> {
  const names = Object.keys(process.env).filter((name) => /^PYTHON./.test(name));
  return { ...Object.fromEntries(names.map((name) => [name, undefined])), PYTHONPATH: workersFolder(), PYTHONUNBUFFERED: "1" };
}

const described = z.object({ version: z.tuple([z.number(), z.number()]), missing: z.array(z.string()) });

/** Refuses, with what to do, an interpreter that cannot be a worker's: too old, or without its packages. */
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
    throw new EnvironmentError(`${python} is no Python interpreter: asked for its version, it answered ${said}`, REMEDY);
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

/** Why a program failed: its own last words, else how it ended, or why it never began. */
function causeOf({ stderr, exitCode, signal, timedOut, originalMessage = "" }: Failed): string {
  const words = stderr.trimEnd().split("\n").slice(-5).join("\n  ").trim();
  if (timedOut) return "it did not answer within two minutes";
  if (exitCode === undefined && signal === undefined) return originalMessage;
  return `it ended with ${signal ?? `exit code ${exitCode}`}${words && `: ${words}`}`;
}

const REMEDY = "leave workers.python out and run: npx prelort setup";

/** The interpreter that workers run in: the one asked for (a path, or a name on PATH), else that of `prelort setup`. */
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

/** A link that leads nowhere is what remains of an environment whose own Python was removed. */
function whatOf(python: string): string {
  try {
    return `${python} links to ${readlinkSync(python)}, which is not there`;
  } catch {
    return `${python} is not there`;
  }
}

function candidates(asked: string): string[] {
  if (isAbsolute(asked) || asked.includes("/")) return [resolve(asked)];
  return (process.env["PATH"] ?? "")
    .split(delimiter)
    .filter(isAbsolute) // relative ones are of the working folder
    .map((folder) => join(folder, asked));
}
