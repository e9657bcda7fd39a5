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

test("versions compare by number, and a text that is not a version is not new enough", () => {
  expect(isAtLeast("3.10.0", [3, 10])).toBe(true);
  expect(isAtLeast("3.9.18", [3, 10])).toBe(false);
  expect(isAtLeast("3.13.0rc1", [3, 10])).toBe(true);
  expect(isAtLeast("4.0", [3, 10])).toBe(true);
  expect(isAtLeast("2.7.18", [3, 10])).toBe(false);
  expect(isAtLeast("20.19.0", [20, 19])).toBe(true);
  expect(isAtLeast("20.9.0", [20, 19])).toBe(false);
  expect(isAtLeast("unknown", [3, 10])).toBe(false);
});

test("a Python that is too old is skipped for one under another name", async () => {
  await fakePython("python3", "3.8.10");
  await fakePython("python3.12", "3.12.1");
  expect(await findBasePython()).toEqual({ path: path.join(folder, "python3.12"), version: "3.12.1" });
});

test("a shim without Python is skipped", async () => {
  await writeFile(path.join(folder, "python3"), "#!/bin/sh\necho command not found >&2\nexit 127\n", { mode: 0o755 });
  await fakePython("python", "3.11.2");
  expect((await findBasePython()).version).toBe("3.11.2");
});

test("without Python the error says how to get it", async () => {
  const failure = findBasePython();
  await expect(failure).rejects.toThrow(EnvironmentError);
  await expect(failure).rejects.toMatchObject({
    message: expect.stringContaining("python3, python, python3.14, python3.13, python3.12, python3.11, python3.10"),
    remedy: expect.stringMatching(/^(sudo apt|brew) install python.*npx prelort setup$/),
  });
});

test("the error lists each unsuitable Python, and why", async () => {
  await fakePython("python3", "3.9.18");
  await fakePython("python3.11", "3.11.2", false);
  await expect(findBasePython()).rejects.toThrow(/\b3\.10\b.*\bpython3\b.*\b3\.9\.18\b.*\bpython3\.11\b.*\b3\.11\.2\b.*\bvenv\b/);
});
