import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import envPaths from "env-paths";

/** Where this package lies: the folder of its package.json, both in a checkout and when installed. */
export function packageRoot(): string {
  return fileURLToPath(new URL("..", import.meta.url)).replace(/[/\\]$/, "");
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

/** Where `prelort setup --track NAME` makes a tracker's own Python environment: its client's packages must not meet the workers'. */
export function trackerFolder(name: string): string {
  return join(cacheFolder(), "trackers", name);
}

/** Its interpreter, whether or not it is there. */
export function trackerPython(name: string): string {
  return join(trackerFolder(name), "bin", "python");
}

/** The folder that holds the Python package `prelort_worker`. */
export function workersFolder(): string {
  return join(packageRoot(), "workers");
}

/** Programs of `prelort_worker`: what a worker runs, and those that do one thing. */
export type PythonProgram = "__main__" | "export" | "gguf" | "pretrain" | "unchanged" | "lanes.__main__" | "tracking.__main__";

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
