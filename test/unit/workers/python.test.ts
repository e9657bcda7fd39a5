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

test("in a checkout the environment lies beside the sources", () => {
  expect(environmentFolder()).toBe(join(packageRoot(), ".venv"));
});

test("PRELORT_CACHE moves the cache folder", () => {
  vi.stubEnv("PRELORT_CACHE", folder);
  expect(cacheFolder()).toBe(folder);
});

test("a bare name is looked up on PATH, and a path is taken as it is", async () => {
  const python = join(folder, "my-python");
  await writeFile(python, "#!/bin/sh\n");
  await chmod(python, 0o755);
  vi.stubEnv("PATH", `/nowhere:${folder}`);
  expect(findPython("my-python")).toBe(python);
  expect(findPython(python)).toBe(python);
});

test("an interpreter that is not there is an environment error that names it and the mending command", () => {
  const missing = join(folder, "python");
  expect(() => findPython(missing)).toThrow(EnvironmentError);
  expect(() => findPython(missing)).toThrow(missing);
  expect(() => findPython(missing)).toThrow("npx prelort setup");
});

test("an environment whose own Python was removed says so", async () => {
  const python = join(folder, "python");
  await symlink(join(folder, "gone"), python);
  expect(() => findPython(python)).toThrow(`${python} links to ${join(folder, "gone")}, which is not there`);
});

test("a folder of PATH that is relative to the working folder is passed over", async () => {
  vi.stubEnv("PATH", "test/fixtures:");
  expect(() => findPython("tiny.py")).toThrow("tiny.py is not there");
});

/** A program in the place of an interpreter. */
async function fakePython(script: string): Promise<string> {
  const file = join(folder, "python");
  await writeFile(file, `#!/bin/sh\n${script}\n`);
  await chmod(file, 0o755);
  return file;
}

test.each([
  ["that ends badly", "echo 'ModuleNotFoundError: No module named encodings' >&2; exit 1", /exit code 1: ModuleNotFoundError: No module/],
  ["that is killed", "kill -9 $$", /it ended with SIGKILL/],
  ["that is something else", "echo usage: ls", /is no Python interpreter: asked for its version, it answered "usage: ls"/],
  ["that says nothing", "", /is no Python interpreter: .* answered ""/],
  ["that is too old", `echo '{"version": [3, 9], "missing": []}'`, /is Python 3\.9; 3\.10 or later is needed/],
  ["of another age", `echo '{"version": [2, 12], "missing": []}'`, /is Python 2\.12; 3\.10 or later is needed/],
  ["without packages", `echo '{"version": [3, 11], "missing": ["torch", "peft"]}'`, /lacks torch, peft/],
])("an interpreter %s is refused with the cause", async (_, script, cause) => {
  const python = await fakePython(script);
  const refused = requirePython(python);
  await expect(refused).rejects.toThrow(EnvironmentError);
  await expect(refused).rejects.toThrow(cause);
  await expect(refused).rejects.toThrow("npx prelort setup");
});

test("one that may not be executed is refused with the cause", async () => {
  const python = join(folder, "python");
  await writeFile(python, "");
  await expect(requirePython(python)).rejects.toThrow(/cannot be run: .*EACCES/);
});

test("the user's own PYTHON* variables do not reach an interpreter", async () => {
  for (const name of ["PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONSAFEPATH"]) vi.stubEnv(name, "/nowhere");
  const python = await fakePython(`env | grep ^PYTHON | sort >&2; exit 1`);
  const told = await requirePython(python).catch((error: Error) => error.message);
  expect(told).toContain(`exit code 1: PYTHONPATH=${workersFolder()}\n  PYTHONUNBUFFERED=1`);
  expect(told).not.toContain("/nowhere");
});
