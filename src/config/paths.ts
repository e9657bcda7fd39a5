import { accessSync, constants, readdirSync, type Stats, statSync } from "node:fs";
import { homedir } from "node:os";
import { basename, dirname, extname, isAbsolute, join, resolve } from "node:path";
import type { ResolvedPath } from "./locate.ts";
import { nearest } from "./nearest.ts";
import { POLICY_KEYS, splitModule } from "./own-policy-spec.ts";
import { valueAt, withValueAt, type Path } from "./tree.ts";
import { placeKey, type Place, type YamlSource } from "./yaml-source.ts";

/** The absolute path that a config means; undefined if it means none. What may be a name on the hub is returned as written. */
type Find = (written: string, absolute: string) => string | undefined;

/**
 * One rule for every path: in a config file, or a comparison, it is relative to the file's folder, so that a config can be run from
 * anywhere; in `--set` it is relative to the working directory, like everything on a command line. `prelort:NAME` and names on the hub stay as
 * they are. A path to nothing is a finding. A task of your own is looked for beside the file that names it. Without `folder`, as for
 * a record, paths in the file are absolute already.
 */
export function resolvePaths(source: YamlSource, folder: string | undefined): YamlSource {
  const data = "there is no such file or folder, and it cannot be the name of a dataset on the hub";
  const model =
    "there is no such folder, and it is not taken for a model name on the hub; a name whose owner is also a folder here needs model.revision, such as main";
  const hasRevision = typeof valueAt(source.value, ["model", "revision"]) === "string";
  const rules: readonly (readonly [Path, Find, string])[] = [
    [["data", "path"], dataSource, data],
    [["data", "evalPath"], dataSource, data],
    [["model", "nameOrPath"], hasRevision ? modelWithRevision : modelFolder, model],
    [["model", "taskFolder"], existingFolder, "there is no such folder"],
    [["lora", "init_from"], adapterFolder, "is neither a PEFT adapter (adapter_config.json) nor the directory of a run (run.json)"],
    [["workers", "cluster", "tokenFile"], readableFile, "there is no such file"],
    ...MODULES.map((path) => [path, moduleFile, "there is no such file"] as const),
  ];
  const resolved = rules.reduce((known, [path, find, message]) => resolveAt(known, path, folder, find, message), source);
  return folder === undefined ? resolved : withTaskFolder(resolved, folder);
}

/** The paths that resolvePaths changed. */
export function resolvedPaths(written: YamlSource, source: YamlSource): readonly ResolvedPath[] {
  return PATHS.flatMap((path) => {
    const [before, after] = [written, source].map(({ value }) => splitModule(valueAt(value, path))?.file ?? valueAt(value, path));
    return typeof before === "string" && typeof after === "string" && before !== after ? [{ written: before, resolved: after }] : [];
  });
}

/** Files of policies of one's own. */
const MODULES: readonly Path[] = POLICY_KEYS.flatMap((key) => [
  ["strategy", key],
  ["strategy", key, "module"],
]);

const PATHS: readonly Path[] = [
  ["data", "path"],
  ["data", "evalPath"],
  ["model", "nameOrPath"],
  ["lora", "init_from"],
  ["workers", "cluster", "tokenFile"],
  ...MODULES,
];

function withTaskFolder(source: YamlSource, folder: string): YamlSource {
  const task = valueAt(source.value, ["model", "task"]);
  if (typeof task !== "string" || !task.includes(":") || valueAt(source.value, ["model", "taskFolder"]) !== undefined) return source;
  const place = source.places.get(placeKey(["model", "task"]))?.value;
  return { ...source, value: withValueAt(source.value, ["model", "taskFolder"], resolve(folderOf(place, folder))) };
}

function resolveAt(source: YamlSource, path: Path, folder: string | undefined, find: Find, message: string): YamlSource {
  const written = valueAt(source.value, path);
  const place = source.places.get(placeKey(path))?.value;
  if (typeof written !== "string" || written === "" || written.startsWith("prelort:") || !place) return source;
  if (find === moduleFile && !splitModule(written)) return source;
  if (folder === undefined && place.inFile) return source;
  const absolute = resolve(folderOf(place, folder), written);
  const refuse = (problem: string) => ({ ...source, findings: [...source.findings, { path, message: problem, place }] });
  try {
    const found = find(written, absolute);
    if (found === undefined) return refuse(`${message}: ${absolute}${spellingHint(written, absolute, find)}`);
    return { ...source, value: withValueAt(source.value, path, found) };
  } catch (error) {
    return refuse(`cannot be read: ${(error as Error).message}`);
  }
}

function folderOf(place: Place | undefined, folder: string | undefined): string {
  const isInFile = place?.inFile ?? true;
  return place?.folder ?? (isInFile && folder !== undefined ? folder : ".");
}

function spellingHint(written: string, absolute: string, find: Find): string {
  if (written.startsWith("~/")) return `; ~ is not expanded: write ${join(homedir(), written.slice(2))}`;
  const parent = dirname(absolute);
  const hash = splitModule(written) ? /#[^#]*$/.exec(written)?.[0] : "";
  const meant = nearest(
    basename(absolute),
    namesIn(parent).map((name) => `${name}${hash}`),
  );
  if (meant === undefined || find("", join(parent, meant)) === undefined) return "";
  return `; did you mean ${written.replace(/[^/]+\/*$/, meant)}?`;
}

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Undefined only if there is nothing at the path; throws if that cannot be known. */
function statOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch (error) {
    // A file on the way: there is nothing below it.
    if ((error as NodeJS.ErrnoException).code === "ENOTDIR") return undefined;
    throw error;
  }
}

function dataSource(written: string, absolute: string): string | undefined {
  if (statOf(absolute)) return absolute;
  return isHubName(written) && extname(written) === "" ? written : undefined;
}

/** A mistyped folder that passed for a name on the hub would cost a worker's start, and retries over the network. */
function modelFolder(written: string, absolute: string): string | undefined {
  const isInFolder = written.includes("/") && existingFolder("", dirname(absolute)) !== undefined;
  return existingFolder(written, absolute) ?? (isHubName(written) && !isInFolder ? written : undefined);
}

/** Only a model on the hub has revisions. */
function modelWithRevision(written: string, absolute: string): string | undefined {
  return existingFolder(written, absolute) ?? (isHubName(written) ? written : undefined);
}

function existingFolder(_: string, absolute: string): string | undefined {
  return statOf(absolute)?.isDirectory() ? absolute : undefined;
}

function readableFile(_: string, absolute: string): string | undefined {
  if (!statOf(absolute)?.isFile()) return undefined;
  accessSync(absolute, constants.R_OK);
  return absolute;
}

function moduleFile(_: string, absolute: string): string | undefined {
  return statOf(splitModule(absolute)?.file ?? "")?.isFile() ? absolute : undefined;
}

function adapterFolder(_: string, absolute: string): string | undefined {
  return ["adapter_config.json", "run.json"].some((name) => statOf(join(absolute, name))) ? absolute : undefined;
}

/** `name` or `owner/name`; what begins with `.`, `/` or `~` is a path. */
function isHubName(written: string): boolean {
  return !isAbsolute(written) && /^[\w-][\w.-]*(\/[\w-][\w.-]*)?$/.test(written);
}
