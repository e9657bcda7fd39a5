import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { findBasePython, isAtLeast } from "../../../src/setup/base-python.ts";
import { EnvironmentError } from "../../../src/errors.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "prelort-base-python-"));
  vi.stubEnv("PATH", folder);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true });
});

/** A command on PATH that answers as a Python of that version would. */
async function fakePython(command: string, version: string, hasEnsurepip = true): Promise<void> {
  const file = path.join(folder, command);
  await writeFile(file, `#!/bin/sh\necho '${JSON.stringify([file, version, hasEnsurepip])}'\n`);
  await chmod(file, 0o755);
}

test("versions compare by number, and what is no version is not new enough", () => {
  expect(isAtLeast("3.10.0", [3, 10])).toBe(true);
  expect(isAtLeast("3.9.18", [3, 10])).toBe(false);
  expect(isAtLeast("3.13.0rc1", [3, 10])).toBe(true);
  expect(isAtLeast("4.0", [3, 10])).toBe(true);
  expect(isAtLeast("2.7.18", [3, 10])).toBe(false);
  expect(isAtLeast("20.19.0", [20, 19])).toBe(true);
  expect(isAtLeast("20.9.0", [20, 19])).toBe(false);
  expect(isAtLeast("unknown", [3, 10])).toBe(false);
});

test("a Python that is too old is passed over for one under another name", async () => {
  await fakePython("python3", "3.8.10");
  await fakePython("python3.12", "3.12.1");
  expect(await findBasePython()).toEqual({ path: path.join(folder, "python3.12"), version: "3.12.1" });
});

test("a shim for no Python is passed over", async () => {
  await writeFile(path.join(folder, "python3"), "#!/bin/sh\necho command not found >&2\nexit 127\n", { mode: 0o755 });
  await fakePython("python", "3.11.2");
  expect((await findBasePython()).version).toBe("3.11.2");
});

test("without Python the error says how to get it", async () => {
  const failure = findBasePython();
  await expect(failure).rejects.toThrow(EnvironmentError);
  await expect(failure).rejects.toThrow("none of python3, python, python3.14, python3.13, python3.12, python3.11, python3.10 is on PATH");
  await expect(failure).rejects.toThrow(/To fix it: (sudo apt|brew) install python/);
});

test("the error lists each Python that will not do, and why", async () => {
  await fakePython("python3", "3.9.18");
  await fakePython("python3.11", "3.11.2", false);
  await expect(findBasePython()).rejects.toThrow(
    "Python 3.10 or newer with its venv module: python3 is 3.9.18, python3.11 is 3.11.2 without venv",
  );
});
