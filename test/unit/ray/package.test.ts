import { mkdir, mkdtemp, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { unzipSync } from "fflate";
import { expect, onTestFinished, test } from "vitest";
import { workerPackage } from "../../../src/ray/package.ts";

async function folderOf(files: Readonly<Record<string, string>>, when: Date): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "package-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  for (const [name, content] of Object.entries(files)) {
    await mkdir(join(folder, name, ".."), { recursive: true });
    await writeFile(join(folder, name), content);
    await utimes(join(folder, name), when, when);
  }
  return folder;
}

const files = { "run.py": "run", "prelort_worker/b.py": "b", "prelort_worker/wire/a.py": "a" };
const clutter = { "prelort_worker/__pycache__/b.pyc": "x", "prelort_worker/wire/.a.py.swp": "x", "README.md": "x" };

test("the same code gives the same package, whatever its times are and whatever lies beside it", async () => {
  const first = await workerPackage(await folderOf(files, new Date(2020, 1, 1)));
  const second = await workerPackage(await folderOf({ ...clutter, ...files }, new Date(2024, 1, 1)));
  expect(second).toEqual(first);
  expect(first.name).toMatch(/^_ray_pkg_[0-9a-f]{32}\.zip$/);
  const other = await workerPackage(await folderOf({ ...files, "run.py": "walk" }, new Date(2020, 1, 1)));
  expect(other.name).not.toBe(first.name);
});

test("prelort's own package has what starts a worker, and nothing that Python has cached", async () => {
  const { zip } = await workerPackage();
  const names = Object.keys(unzipSync(zip));
  expect(names).toEqual(expect.arrayContaining(["run.py", "prelort_worker/__init__.py", "prelort_worker/wire/link.py"]));
  expect(names.filter((name) => !name.endsWith(".py"))).toEqual([]);
});
