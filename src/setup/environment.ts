import { createHash } from "node:crypto";
import { readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { execa } from "execa";
import { z } from "zod";
import { readTextIfThere } from "../base/read-file.ts";
import { parseJson } from "../base/json.ts";
import { environmentFolder, environmentPython, packageRoot, pythonEnvironment, workersFolder } from "../installation.ts";
import { findBasePython } from "./base-python.ts";
import { runTool } from "./run-tool.ts";
import type { SetupContext } from "./context.ts";

/**
 * Creates or updates the workers' Python environment. A stamp is written last: an environment without one is incomplete and is
 * created again.
 */
export async function setUpEnvironment({ extras, ...context }: SetupContext & { readonly extras: readonly string[] }): Promise<void> {
  const { say } = context;
  const folder = environmentFolder();
  const stamp = await readStamp();
  const wanted = { inputs: await hashInputs(), extras: [...new Set([...(stamp?.extras ?? []), ...extras])] };
  const works = stamp !== undefined && (await execa(environmentPython(), ["-I", "-c", ""], { reject: false })).exitCode === 0;
  if (works && stamp.inputs === wanted.inputs && stamp.extras.length === wanted.extras.length) {
    say(`Python environment: up to date in ${folder}`);
    return;
  }

  await rm(stampPath(), { force: true });
  if (!works) {
    const base = await findBasePython();
    say(`Python environment: creating ${folder} with Python ${base.version} (${base.path})`);
    await runTool(base.path, ["-I", "-m", "venv", "--clear", folder], {
      ...context,
      problem: `the Python environment could not be created in ${folder}`,
      remedy: "make the folder writable, or set PRELORT_CACHE to one that is, then npx prelort setup",
    });
  }
  say("Python environment: installing PyTorch, Transformers, PEFT and their dependencies; the first time takes minutes");
  const constraints = path.join(workersFolder(), "constraints.txt");
  const requirements = await readRequirements(wanted.extras);
  await runTool(
    environmentPython(),
    ["-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "-c", constraints, ...requirements],
    {
      ...context,
      problem: `pip could not install the Python packages into ${folder}`,
      remedy: "make sure that pip can reach a package index (PIP_INDEX_URL, PIP_PROXY), then npx prelort setup",
    },
  );
  await writeFile(stampPath(), JSON.stringify(wanted));
}

const stampSchema = z.object({ inputs: z.string(), extras: z.array(z.string()) });

function stampPath(): string {
  return path.join(environmentFolder(), "prelort.json");
}

async function readStamp(): Promise<z.output<typeof stampSchema> | undefined> {
  const text = await readTextIfThere(stampPath());
  // An environment with a damaged stamp is created again, as if another version had made it.
  return text === undefined ? undefined : stampSchema.safeParse(parseJson(text)).data;
}

/** A hash of the files that determine what is installed. */
async function hashInputs(): Promise<string> {
  const hash = createHash("sha256");
  for (const file of [path.join(packageRoot(), "pyproject.toml"), path.join(workersFolder(), "constraints.txt")]) {
    hash.update(await readFile(file));
  }
  return hash.digest("hex");
}

async function readRequirements(extras: readonly string[]): Promise<string[]> {
  const script = path.join(workersFolder(), "environment.py");
  const { stdout } = await execa(environmentPython(), [script, "requirements", ...extras], { env: pythonEnvironment() });
  return z.array(z.string()).parse(JSON.parse(stdout));
}
