import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { EnvironmentError } from "../../../src/errors.ts";
import { cacheFolder, environmentFolder, findPython, packageRoot } from "../../../src/workers/python.ts";

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
