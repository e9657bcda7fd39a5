import { existsSync, readFileSync } from "node:fs";
import { readFile, statfs } from "node:fs/promises";
import { availableParallelism, totalmem } from "node:os";
import path from "node:path";
import process from "node:process";
import { execa } from "execa";
import { z } from "zod";
import { assetPaths, isAssetName, setupCommandOf, useOf } from "../config/assets.ts";
import { EnvironmentError } from "../errors.ts";
import { cacheFolder, environmentFolder, environmentPython, packageRoot, pythonEnvironment, workersFolder } from "../installation.ts";
import { findBasePython, isAtLeast } from "./base-python.ts";

/**
 * A requirement of prelort, or information about the machine. Only `missing` prevents runs: `differs` is another version than the
 * tested one, and `absent` is needed only by the quickstart or some configs.
 */
export interface Finding {
  readonly name: string;
  readonly status: "ok" | "missing" | "differs" | "absent" | "info";
  readonly found: string;
  readonly expected?: string;
  /** How to fix it. */
  readonly remedy?: string;
}

/** Examines everything that a run needs, and changes nothing. */
export async function examine(): Promise<Finding[]> {
  return [await examineNode(), ...(await examineEnvironment()), ...examineAssets(), ...(await examineMachine())];
}

const remedy = "npx prelort setup";
const manifest = z.object({ engines: z.object({ node: z.string() }) });

async function examineNode(): Promise<Finding> {
  const { engines } = manifest.parse(JSON.parse(await readFile(path.join(packageRoot(), "package.json"), "utf8")));
  const [major = 0, minor = 0] = engines.node.replace(">=", "").split(".").map(Number);
  const found = { name: "Node", found: process.versions.node, expected: engines.node };
  return isAtLeast(found.found, [major, minor])
    ? { ...found, status: "ok" }
    : { ...found, status: "missing", remedy: `install Node ${engines.node}` };
}

const report = z.object({
  python: z.string(),
  packages: z.array(z.object({ name: z.string(), found: z.string().nullable(), expected: z.string() })),
  devices: z.object({ cuda: z.array(z.string()), mps: z.boolean(), error: z.string().nullable() }),
});

async function examineEnvironment(): Promise<Finding[]> {
  const environment = { name: "Python environment", found: environmentFolder() };
  if (!existsSync(environmentPython())) {
    return [await examineBasePython(), { ...environment, status: "missing", found: `not in ${environment.found}`, remedy }];
  }
  const { stdout, stderr, failed } = await execa(environmentPython(), [path.join(workersFolder(), "environment.py"), "report"], {
    env: pythonEnvironment(),
    reject: false,
  });
  if (failed) return [{ ...environment, status: "missing", found: `broken: ${stderr.split("\n").at(-1)}`, remedy }];

  const { python, packages, devices } = report.parse(JSON.parse(stdout));
  return [
    { ...environment, status: "ok" },
    { name: "Python", status: "ok", found: python, expected: ">=3.10" },
    ...packages.map(examinePackage),
    devices.error === null
      ? { name: "devices", status: "info", found: listDevices(devices) }
      : { name: "devices", status: "missing", found: `torch cannot be imported: ${devices.error}`, remedy },
  ];
}

async function examineBasePython(): Promise<Finding> {
  const python = { name: "Python", expected: ">=3.10" };
  try {
    const { version, path: command } = await findBasePython();
    return { ...python, status: "ok", found: `${version} (${command})` };
  } catch (error) {
    if (!(error instanceof EnvironmentError)) throw error;
    return { ...python, status: "missing", found: "none suitable", remedy: error.remedy };
  }
}

/** The versions of Python packages that prelort is tested with, by name: several where they depend on the version of Python. */
export function testedVersions(): ReadonlyMap<string, readonly string[]> {
  const lines = readFileSync(path.join(workersFolder(), "constraints.txt"), "utf8").split("\n");
  const pins = lines.flatMap((line) => [...line.matchAll(/^([\w.-]+)==([\w.]+)/g)]);
  const versions = new Map<string, string[]>();
  for (const [, name = "", version = ""] of pins) versions.set(name, [...(versions.get(name) ?? []), version]);
  return versions;
}

type Report = z.output<typeof report>;

function examinePackage({ name, found, expected }: Report["packages"][number]): Finding {
  if (found === null) return { name, status: "missing", found: "not installed", expected, remedy };
  const [version] = found.split("+"); // 2.13.0+cpu is a build of 2.13.0
  return version === expected ? { name, status: "ok", found, expected } : { name, status: "differs", found, expected, remedy };
}

function listDevices({ cuda, mps }: Report["devices"]): string {
  return [...cuda.map((name, index) => `cuda:${index} ${name}`), ...(mps ? ["mps"] : []), "cpu"].join(", ");
}

function examineAssets(): Finding[] {
  return Object.keys(assetPaths)
    .filter(isAssetName)
    .map((name) => {
      const location = path.join(cacheFolder(), assetPaths[name]);
      const asset = { name: `prelort:${name}`, expected: useOf(name) };
      return existsSync(location)
        ? { ...asset, status: "ok", found: location }
        : { ...asset, status: "absent", found: `not in ${location}`, remedy: setupCommandOf(name) };
    });
}

async function examineMachine(): Promise<Finding[]> {
  const { bavail, bsize } = await statfs(nearestFolder(cacheFolder()));
  return [
    { name: "processor", status: "info", found: `${availableParallelism()} cores, ${gibibytes(totalmem())} of memory` },
    { name: "disk", status: "info", found: `${gibibytes(bavail * bsize)} free for ${cacheFolder()}` },
  ];
}

function nearestFolder(folder: string): string {
  return existsSync(folder) ? folder : nearestFolder(path.dirname(folder));
}

function gibibytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
