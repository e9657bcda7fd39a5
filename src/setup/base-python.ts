import { execa } from "execa";
import { z } from "zod";
import { EnvironmentError } from "../errors.ts";

export interface BasePython {
  readonly path: string;
  readonly version: string;
}

const oldest = [3, 10] as const;
const commands = ["python3", "python", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10"];
const remedy =
  process.platform === "darwin"
    ? "brew install python@3.13, then npx prelort setup"
    : "sudo apt install python3 python3-venv (on Debian and Ubuntu; elsewhere your system's package of Python 3.10 or newer), then npx prelort setup";

// venv needs ensurepip, which Debian has in a separate package.
const question = `import importlib.util, json, platform, sys
print(json.dumps([sys.executable, platform.python_version(), importlib.util.find_spec("ensurepip") is not None]))`;
const answer = z.tuple([z.string(), z.string(), z.boolean()]);

/** The first Python on PATH that can create an environment: 3.10 or newer, with venv and ensurepip. */
export async function findBasePython(): Promise<BasePython> {
  const refused: string[] = [];
  for (const command of commands) {
    const found = await ask(command);
    if (!found) continue;
    const [path, version, hasEnsurepip] = found;
    if (!isAtLeast(version, oldest)) refused.push(`${command} is ${version}`);
    else if (!hasEnsurepip) refused.push(`${command} is ${version} without venv`);
    else return { path, version };
  }
  const found = refused.length > 0 ? refused.join(", ") : `none of ${commands.join(", ")} is on PATH`;
  throw new EnvironmentError(`prelort needs Python ${oldest.join(".")} or newer with its venv module: ${found}`, remedy);
}

/** Whether a version such as `3.13.0rc1` is at least `major.minor`. */
export function isAtLeast(version: string, [major, minor]: readonly [number, number]): boolean {
  const [, foundMajor, foundMinor] = /^(\d+)\.(\d+)/.exec(version) ?? [];
  if (foundMajor === undefined || foundMinor === undefined) return false;
  return Number(foundMajor) > major || (Number(foundMajor) === major && Number(foundMinor) >= minor);
}

/** Asks a command, which may be absent, Python 2 or a shim without Python; undefined unless it is a Python 3. */
async function ask(command: string): Promise<z.output<typeof answer> | undefined> {
  const { stdout, failed } = await execa(command, ["-I", "-c", question], { reject: false, timeout: 120_000 });
  return failed ? undefined : answer.parse(JSON.parse(stdout));
}
