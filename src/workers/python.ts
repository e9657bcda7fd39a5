import { existsSync, readFileSync } from "node:fs";
import { delimiter, isAbsolute, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import envPaths from "env-paths";
import { execa } from "execa";
import { z } from "zod";
import { EnvironmentError } from "../errors.ts";

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

/** As Python: its version, and which of what a worker imports is missing. Runs on any Python 3. */
const PROBE = `
import importlib.util, json, sys
needed = ["torch", "transformers", "peft", "zmq", "msgpack", "safetensors", "numpy"]
missing = [name for name in needed if importlib.util.find_spec(name) is None]
print(json.dumps({"version": list(sys.version_info[:2]), "missing": missing}))
`;
const probed = z.object({ version: z.tuple([z.number(), z.number()]), missing: z.array(z.string()) });

/** Refuses, with what to do, an interpreter that cannot be a worker's: too old, or without its packages. */
export async function requirePython(python: string): Promise<void> {
  const { stdout, failed, shortMessage } = await execa(python, ["-c", PROBE], { reject: false, timeout: 60_000 });
  if (failed) throw new EnvironmentError(`${python} cannot be run: ${shortMessage}`, REMEDY);
  const { version, missing } = probed.parse(JSON.parse(stdout));
  const [major, minor] = version;
  if (major < 3 || minor < 10) throw new EnvironmentError(`${python} is Python ${major}.${minor}; 3.10 or later is needed`, REMEDY);
  if (missing.length > 0) throw new EnvironmentError(`${python} lacks ${missing.join(", ")}`, REMEDY);
}

const REMEDY = "leave workers.python out and run: npx prelort setup";

/** The interpreter that workers run in: the one asked for (a path, or a name on PATH), else that of `prelort setup`. */
export function findPython(asked?: string): string {
  if (asked === undefined) {
    const made = environmentPython();
    if (existsSync(made)) return made;
    throw new EnvironmentError(`no Python environment for the workers: ${made} is not there`, "npx prelort setup");
  }
  const found = candidates(asked).find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new EnvironmentError(
    `workers.python is ${asked}, which is not there`,
    "correct workers.python, or leave it out and run: npx prelort setup",
  );
}

function candidates(asked: string): string[] {
  if (isAbsolute(asked) || asked.includes("/")) return [resolve(asked)];
  return (process.env["PATH"] ?? "").split(delimiter).map((folder) => join(folder, asked));
}
