import { copyFile, mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type Asset, setUpAsset } from "../../../src/setup/asset.ts";
import type { RegistryPackage } from "../../../src/setup/fetch-package.ts";
import { EnvironmentError, InterruptedError } from "../../../src/errors.ts";
import { onlyWheelsOf, writeWheel } from "../../support/local-wheel.ts";

// pip itself fetches, from a folder of wheels written here.

let folder: string;
let wheels: string;
let cache: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "prelort-asset-"));
  wheels = path.join(folder, "wheels");
  cache = path.join(folder, "cache");
  await mkdir(wheels);
  vi.stubEnv("PRELORT_CACHE", cache);
  for (const [name, value] of Object.entries(onlyWheelsOf(wheels))) vi.stubEnv(name, value);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true });
});

const signal = new AbortController().signal;
const quiet = { say: () => {}, progress: () => {}, signal };

function poems(...sources: RegistryPackage[]): Asset {
  return {
    title: "data poems",
    folder: "data/poems",
    sources,
    async layOut(source, unpacked, target) {
      await copyFile(path.join(unpacked, source.name, "poem.txt"), path.join(target, "poem.txt"));
    },
  };
}

test("an asset is fetched, checked, unpacked and laid out, and no temporary files remain", async () => {
  const source = await writeWheel(wheels, "poems", "1.0", { "poems/poem.txt": "rain" });
  await setUpAsset(poems(source), quiet);
  expect(await readFile(path.join(cache, "data/poems/poem.txt"), "utf8")).toBe("rain");
  expect(await readdir(cache)).toEqual(["data", "setup.log"]);
});

test("an existing asset is not fetched again", async () => {
  const source = await writeWheel(wheels, "poems", "1.0", { "poems/poem.txt": "rain" });
  await setUpAsset(poems(source), quiet);
  await rm(wheels, { recursive: true });
  await setUpAsset(poems(source), quiet);
});

test("a package that differs from the pinned one is refused by its checksum, and no files remain", async () => {
  const source = { ...(await writeWheel(wheels, "poems", "1.0", { "poems/poem.txt": "rain" })), sha256: "0".repeat(64) };
  const said: string[] = [];
  await expect(setUpAsset(poems(source), { ...quiet, say: (line) => void said.push(line) })).rejects.toThrow(EnvironmentError);
  expect(said.join("\n")).toMatch(/PyPI poems==1\.0 .*\b0{64}\b.*\b(?!0{64})[0-9a-f]{64}\b/);
  expect(await readdir(cache)).toEqual(["setup.log"]);
});

test("if the first package cannot be fetched, the next one is used", async () => {
  const absent = { registry: "pypi", name: "poems-that-are-not-there", version: "1.0", sha256: "" } as const;
  const spare = await writeWheel(wheels, "spare", "2.0", { "spare/poem.txt": "rain" });
  await setUpAsset(poems(absent, spare), quiet);
  expect(await readdir(path.join(cache, "data/poems"))).toEqual(["poem.txt"]);
});

test("if no package can be fetched, the error names each of them and what to do", async () => {
  const absent = { registry: "pypi", version: "1.0", sha256: "" } as const;
  const failure = setUpAsset(poems({ ...absent, name: "poems" }, { ...absent, name: "spare" }), quiet);
  await expect(failure).rejects.toThrow(EnvironmentError);
  await expect(failure).rejects.toMatchObject({
    message: expect.stringMatching(/data poems .*PyPI poems==1\.0\b.*PyPI spare==1\.0\b/),
    remedy: expect.stringMatching(/npx prelort setup.*PIP_INDEX_URL.*PIP_PROXY/),
  });
  expect(await readdir(cache)).toEqual(["setup.log"]);
});

test("an interrupted fetch leaves no files, and the next package is not tried", async () => {
  const source = await writeWheel(wheels, "poems", "1.0", { "poems/poem.txt": "rain" });
  const said: string[] = [];
  const controller = new AbortController();
  const interrupting = (line: string) => {
    said.push(line);
    controller.abort();
  };
  await expect(setUpAsset(poems(source, source), { ...quiet, say: interrupting, signal: controller.signal })).rejects.toThrow(
    InterruptedError,
  );
  expect(said).toEqual([expect.stringMatching(/data poems.*PyPI poems==1\.0$/)]);
  expect(await readdir(cache)).toEqual(["setup.log"]);
});

test("a layout that fails half-way leaves no files", async () => {
  const source = await writeWheel(wheels, "poems", "1.0", { "poems/verse.txt": "rain" });
  await expect(setUpAsset(poems(source), quiet)).rejects.toThrow(/poem\.txt/);
  expect(await readdir(cache)).toEqual(["setup.log"]);
});
