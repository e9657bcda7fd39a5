import { chmod, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { EnvironmentError } from "../../../src/errors.ts";
import { findPython, requirePython } from "../../../src/workers/python.ts";
import { cacheFolder, environmentFolder, packageRoot, workersFolder } from "../../../src/installation.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "prelort-python-"));
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true });
});

test("the package root is the folder of prelort's package.json", async () => {
  expect(JSON.parse(await readFile(join(packageRoot(), "package.json"), "utf8"))).toMatchObject({ name: "prelort" });
});

test("a checkout has its Python environment in .venv", () => {
  expect(environmentFolder()).toBe(join(packageRoot(), ".venv"));
});

test("PRELORT_CACHE sets the cache folder", () => {
  vi.stubEnv("PRELORT_CACHE", folder);
  expect(cacheFolder()).toBe(folder);
});

test("an interpreter given by a bare name is looked up on PATH, and one given by a path is used as it is", async () => {
  const python = join(folder, "my-python");
  await writeFile(python, "#!/bin/sh\n");
  await chmod(python, 0o755);
  vi.stubEnv("PATH", `/nowhere:${folder}`);
  expect(findPython("my-python")).toBe(python);
  expect(findPython(python)).toBe(python);
});

test("a missing interpreter is an EnvironmentError that names it and the command that fixes it", () => {
  const missing = join(folder, "python");
  expect(() => findPython(missing)).toThrow(EnvironmentError);
  expect(() => findPython(missing)).toThrow(missing);
  expect(() => findPython(missing)).toThrow(expect.objectContaining({ remedy: expect.stringContaining("npx prelort setup") }));
});

test("an environment with a broken link to a removed Python is refused with both paths", async () => {
  const python = join(folder, "python");
  await symlink(join(folder, "gone"), python);
  expect(() => findPython(python)).toThrow(new RegExp(`${python} .*${join(folder, "gone")}\\b`));
});

test("a relative folder in PATH is ignored", async () => {
  vi.stubEnv("PATH", "test/fixtures:");
  expect(() => findPython("tiny.py")).toThrow(/\btiny\.py\b/);
});

/** A program in place of an interpreter. */
async function fakePython(script: string): Promise<string> {
  const file = join(folder, "python");
  await writeFile(file, `#!/bin/sh\n${script}\n`);
  await chmod(file, 0o755);
  return file;
}

test.each([
  ["that fails", "echo 'ModuleNotFoundError: No module named encodings' >&2; exit 1", /\bcode 1\b.*ModuleNotFoundError: No module/],
  ["that is killed", "kill -9 $$", /\bSIGKILL\b/],
  ["that is another program", "echo usage: ls", /\bPython\b.*"usage: ls"/],
  ["that prints nothing", "", /\bPython\b.*""/],
  ["that is too old", `echo '{"version": [3, 9], "missing": []}'`, /\b3\.9\b.*\b3\.10\b/],
  ["that is Python 2", `echo '{"version": [2, 12], "missing": []}'`, /\b2\.12\b.*\b3\.10\b/],
  ["without packages", `echo '{"version": [3, 11], "missing": ["torch", "peft"]}'`, /\btorch, peft\b/],
])("an interpreter %s is refused with the cause", async (_, script, cause) => {
  const python = await fakePython(script);
  const refused = requirePython(python);
  await expect(refused).rejects.toThrow(EnvironmentError);
  await expect(refused).rejects.toThrow(cause);
  await expect(refused).rejects.toMatchObject({ remedy: expect.stringContaining("npx prelort setup") });
});

test("an interpreter without permission to execute is refused with the cause", async () => {
  const python = join(folder, "python");
  await writeFile(python, "");
  await expect(requirePython(python)).rejects.toThrow(/\bEACCES\b/);
});

test("the user's PYTHON* variables do not reach an interpreter", async () => {
  for (const name of ["PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONSAFEPATH"]) vi.stubEnv(name, "/nowhere");
  const python = await fakePython(`env | grep ^PYTHON | sort >&2; exit 1`);
  const message = await requirePython(python).catch((error: Error) => error.message);
  expect(message).toContain(`PYTHONPATH=${workersFolder()}\n  PYTHONUNBUFFERED=1`);
  expect(message).not.toContain("/nowhere");
});
