import { type Stats, statSync } from "node:fs";
import { extname, isAbsolute, join, resolve } from "node:path";
import type { ResolvedPath } from "./locate.ts";
import { valueAt, withValueAt, type Path } from "./tree.ts";
import { placeKey, type YamlSource } from "./yaml-source.ts";

/**
 * One rule for every path: in a config file it is relative to that file's folder, so that a config can be run from
 * anywhere; from `--set` to the working directory, as everything on a command line is. `prelort:NAME` stays as it is, and
 * so does what names nothing there but could be a name on the hub. What leads nowhere is a finding. A task of your own is
 * looked for beside the file that names it. Without a folder, as of a record, paths in the file are absolute already.
 */
export function resolvePaths(source: YamlSource, folder: string | undefined): YamlSource {
  const data = "there is no such file or folder, and it cannot be the name of a dataset on the hub";
  const model = "is no folder, and cannot be a name on the hub";
  const taskFolder = "there is no such folder";
  const rules: readonly [Path, (written: string, absolute: string) => string | undefined, string][] = [
    [["data", "path"], dataSource, data],
    [["data", "evalPath"], dataSource, data],
    [["model", "nameOrPath"], modelFolder, model],
    [["model", "taskFolder"], existingFolder, taskFolder],
    [["lora", "init_from"], adapterFolder, "is neither a PEFT adapter (adapter_config.json) nor the directory of a run (run.json)"],
  ];
  const resolved = rules.reduce((known, [path, find, message]) => resolveAt(known, path, folder, find, message), source);
  return folder === undefined ? resolved : withTaskFolder(resolved, folder);
}

/** What resolvePaths made another of. */
export function resolvedPaths(written: YamlSource, source: YamlSource): readonly ResolvedPath[] {
  return PATHS.flatMap((path) => {
    const [before, after] = [valueAt(written.value, path), valueAt(source.value, path)];
    return typeof before === "string" && typeof after === "string" && before !== after ? [{ written: before, resolved: after }] : [];
  });
}

const PATHS: readonly Path[] = [
  ["data", "path"],
  ["data", "evalPath"],
  ["model", "nameOrPath"],
  ["lora", "init_from"],
];

function withTaskFolder(source: YamlSource, folder: string): YamlSource {
  const task = valueAt(source.value, ["model", "task"]);
  if (typeof task !== "string" || !task.includes(":") || valueAt(source.value, ["model", "taskFolder"]) !== undefined) return source;
  const isInFile = source.places.get(placeKey(["model", "task"]))?.value.inFile ?? true;
  return { ...source, value: withValueAt(source.value, ["model", "taskFolder"], resolve(isInFile ? folder : ".")) };
}

function resolveAt(
  source: YamlSource,
  path: Path,
  folder: string | undefined,
  find: (written: string, absolute: string) => string | undefined,
  message: string,
): YamlSource {
  const written = valueAt(source.value, path);
  const place = source.places.get(placeKey(path))?.value;
  if (typeof written !== "string" || written === "" || written.startsWith("prelort:") || !place) return source;
  if (folder === undefined && place.inFile) return source;
  const absolute = resolve(place.inFile && folder !== undefined ? folder : ".", written);
  const refuse = (problem: string) => ({ ...source, findings: [...source.findings, { path, message: problem, place }] });
  try {
    const found = find(written, absolute);
    return found === undefined ? refuse(`${message}: ${absolute}`) : { ...source, value: withValueAt(source.value, path, found) };
  } catch (error) {
    return refuse(`cannot be read: ${(error as Error).message}`);
  }
}

/** Throws whatever keeps it from being told, but that there is nothing. */
function statOf(place: string): Stats | undefined {
  try {
    return statSync(place, { throwIfNoEntry: false });
  } catch (error) {
    // Below a file there is nothing.
    if ((error as NodeJS.ErrnoException).code === "ENOTDIR") return undefined;
    throw error;
  }
}

function dataSource(written: string, absolute: string): string | undefined {
  if (statOf(absolute)) return absolute;
  return couldBeOnHub(written) && extname(written) === "" ? written : undefined;
}

function modelFolder(written: string, absolute: string): string | undefined {
  return existingFolder(written, absolute) ?? (couldBeOnHub(written) ? written : undefined);
}

function existingFolder(_: string, absolute: string): string | undefined {
  return statOf(absolute)?.isDirectory() ? absolute : undefined;
}

function adapterFolder(_: string, absolute: string): string | undefined {
  return ["adapter_config.json", "run.json"].some((name) => statOf(join(absolute, name))) ? absolute : undefined;
}

function couldBeOnHub(written: string): boolean {
  return !isAbsolute(written) && hubName.test(written);
}

/** `name` or `owner/name`; what begins with a dot is a path. */
const hubName = /^[\w-][\w.-]*(\/[\w-][\w.-]*)?$/;
