import { createHash } from "node:crypto";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { execa } from "execa";
import { z } from "zod";
import { readTextIfThere } from "../base/read-file.ts";
import { parseJson } from "../base/json.ts";
import { environmentFolder, packageRoot, pythonEnvironment, workersFolder } from "../installation.ts";
import { findBasePython } from "./base-python.ts";
import { runTool } from "./run-tool.ts";
import type { SetupContext } from "./context.ts";

/** Creates or updates the workers' Python environment. */
export async function setUpEnvironment({ extras, ...context }: SetupContext & { readonly extras: readonly string[] }): Promise<void> {
  const constraints = path.join(workersFolder(), "constraints.txt");
  await provideEnvironment({
    ...context,
    folder: environmentFolder(),
    extras,
    inputs: [path.join(packageRoot(), "pyproject.toml"), constraints],
    constraints,
    what: "Python environment",
    packages: "PyTorch, Transformers, PEFT and their dependencies; the first time takes minutes",
    command: "npx prelort setup",
    requirements: (python, wanted) => readRequirements(python, "requirements", wanted),
  });
}

export interface EnvironmentOptions extends SetupContext {
  readonly folder: string;
  /** Of pyproject.toml. Those of an earlier set-up are kept. */
  readonly extras: readonly string[];
  /** The files that determine what is installed. */
  readonly inputs: readonly string[];
  /** A file of pip with the versions. */
  readonly constraints: string;
  /** What is set up, what is installed into it, and the command that does it: for people. */
  readonly what: string;
  readonly packages: string;
  readonly command: string;
  requirements(python: string, extras: readonly string[]): Promise<readonly string[]>;
}

/**
 * Creates or updates a Python environment. A stamp is written last: an environment without one is incomplete and is created again.
 */
export async function provideEnvironment(options: EnvironmentOptions): Promise<void> {
  const { folder, extras, what, packages, command, say } = options;
  const stampFile = path.join(folder, "prelort.json");
  const python = path.join(folder, "bin", "python");
  const stamp = await readStamp(stampFile);
  const wanted = { inputs: await hashOf(options.inputs), extras: [...new Set([...(stamp?.extras ?? []), ...extras])] };
  const works = stamp !== undefined && (await execa(python, ["-I", "-c", ""], { reject: false })).exitCode === 0;
  if (works && stamp.inputs === wanted.inputs && stamp.extras.length === wanted.extras.length) {
    say(`${what}: up to date in ${folder}`);
    return;
  }

  await rm(stampFile, { force: true });
  if (!works) {
    const base = await findBasePython();
    say(`${what}: creating ${folder} with Python ${base.version} (${base.path})`);
    await mkdir(path.dirname(folder), { recursive: true }).catch(() => undefined);
    await runTool(base.path, ["-I", "-m", "venv", "--clear", folder], {
      ...options,
      problem: `the Python environment could not be created in ${folder}`,
      remedy: `make the folder writable, or set PRELORT_CACHE to one that is, then ${command}`,
    });
  }
  say(`${what}: installing ${packages}`);
  const requirements = await options.requirements(python, wanted.extras);
  await runTool(
    python,
    ["-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "-c", options.constraints, ...requirements],
    {
      ...options,
      problem: `pip could not install the Python packages into ${folder}`,
      remedy: `make sure that pip can reach a package index (PIP_INDEX_URL, PIP_PROXY), then ${command}`,
    },
  );
  await writeFile(stampFile, JSON.stringify(wanted));
}

const stampSchema = z.object({ inputs: z.string(), extras: z.array(z.string()) });

async function readStamp(file: string): Promise<z.output<typeof stampSchema> | undefined> {
  const text = await readTextIfThere(file);
  // An environment with a damaged stamp is created again, as if another version had made it.
  return text === undefined ? undefined : stampSchema.safeParse(parseJson(text)).data;
}

async function hashOf(files: readonly string[]): Promise<string> {
  const hash = createHash("sha256");
  for (const file of files) hash.update(await readFile(file));
  return hash.digest("hex");
}

/** `requirements` of pyproject.toml with those of its extras, or those of one `extra` alone. */
export async function readRequirements(python: string, what: "requirements" | "extra", extras: readonly string[]): Promise<string[]> {
  const script = path.join(workersFolder(), "environment.py");
  const { stdout } = await execa(python, [script, what, ...extras], { env: pythonEnvironment() });
  return z.array(z.string()).parse(JSON.parse(stdout));
}
