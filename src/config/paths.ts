import { statSync } from "node:fs";
import { isAbsolute, resolve } from "node:path";
import { valueAt, withValueAt, type Path } from "./tree.ts";
import { placeKey, type YamlSource } from "./yaml-source.ts";

/**
 * One rule for `data.path` and `model.name_or_path`: a path in a config file is relative to that file's folder,
 * so that a config can be run from anywhere; from `--set` it is relative to the working directory, as everything
 * on a command line is. `prelort:NAME` stays as it is, and so does a model that names no folder there but could
 * be a name on the hub. What leads nowhere is a finding.
 */
export function resolvePaths(source: YamlSource, folder: string): YamlSource {
  const withData = resolveAt(source, ["data", "path"], folder, dataFile, "there is no such file");
  return resolveAt(withData, ["model", "nameOrPath"], folder, modelFolder, "is no folder, and cannot be a name on the hub");
}

function resolveAt(
  source: YamlSource,
  path: Path,
  folder: string,
  find: (written: string, absolute: string) => string | undefined,
  message: string,
): YamlSource {
  const written = valueAt(source.value, path);
  const place = source.places.get(placeKey(path))?.value;
  if (typeof written !== "string" || written === "" || written.startsWith("prelort:") || !place) return source;
  const absolute = resolve(place.inFile ? folder : ".", written);
  const found = find(written, absolute);
  return found === undefined
    ? { ...source, findings: [...source.findings, { path, message: `${message}: ${absolute}`, place }] }
    : { ...source, value: withValueAt(source.value, path, found) };
}

function dataFile(_: string, absolute: string): string | undefined {
  return statSync(absolute, { throwIfNoEntry: false })?.isFile() ? absolute : undefined;
}

function modelFolder(written: string, absolute: string): string | undefined {
  if (statSync(absolute, { throwIfNoEntry: false })?.isDirectory()) return absolute;
  return !isAbsolute(written) && hubName.test(written) ? written : undefined;
}

/** `name` or `owner/name`; what begins with a dot is a path. */
const hubName = /^[\w-][\w.-]*(\/[\w-][\w.-]*)?$/;
