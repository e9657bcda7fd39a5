import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { ConfigError } from "../errors.ts";
import { check, formatPath, type Problem } from "./check.ts";
import { override } from "./override.ts";
import { resolvePaths } from "./paths.ts";
import { fileSchema, type FileConfig } from "./schema.ts";
import { isMap } from "./tree.ts";
import { placeKey, readYaml, type Finding, type Place, type YamlSource } from "./yaml-source.ts";

export interface LoadOptions {
  /** `key.path=value` each, in YAML's spelling. They win over the file, and a later one over an earlier. */
  readonly set?: readonly string[] | undefined;
}

/** Reads and validates a config file. Throws a ConfigError with everything that is wrong, each at file:line:col. */
export async function loadConfig(file: string, options: LoadOptions = {}): Promise<FileConfig> {
  return readConfig(await readText(file), file, options);
}

/** The config of a run, as its `run.json`, which is `file`, describes it: its paths lead where they led. */
export function recordedConfig(config: unknown, file: string, options: LoadOptions = {}): FileConfig {
  return readConfig(JSON.stringify(config), file, options, (source) => source);
}

function readConfig(
  text: string,
  file: string,
  { set = [] }: LoadOptions,
  resolve = (source: YamlSource) => resolvePaths(source, dirname(file)),
): FileConfig {
  const start: Place = { location: `${file}:1:1`, inFile: true, order: 0 };
  const written = readYaml(text, file);
  if (written.broken) throw configError(written.findings);
  if (!isMap(written.value)) throw configError([{ path: [], message: "must hold a map of keys", place: start }]);

  const source = resolve(set.reduce(override, written));
  const { value, problems = [] } = check(fileSchema, source.value, "snake_case");
  const findings = [...problems.map((problem) => ({ ...problem, place: findPlace(source, problem) ?? start })), ...source.findings];
  if (value === undefined || findings.length > 0) throw configError(findings);
  return value;
}

/** Text of a config file. Throws a ConfigError if it cannot be read. */
export async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const reason = code === "ENOENT" ? "there is no such file" : `the file cannot be read: ${message}`;
    throw new ConfigError([{ path: "config", message: reason, location: file }]);
  }
}

/** What is missing stands where its map begins. */
function findPlace(source: YamlSource, { path, at }: Problem): Place | undefined {
  const exact = source.places.get(placeKey(path));
  if (exact) return exact[at];
  return path.length > 0 ? findPlace(source, { path: path.slice(0, -1), at: "key", message: "" }) : undefined;
}

/** In the order of reading, one issue for each path: the first that was found. */
function configError(findings: readonly Finding[]): ConfigError {
  const byPath = new Map(findings.toReversed().map((finding) => [placeKey(finding.path), finding]));
  const issues = findings.filter((finding) => byPath.get(placeKey(finding.path)) === finding);
  issues.sort((one, other) => one.place.order - other.place.order);
  return new ConfigError(
    issues.map(({ path, message, place }) => ({ path: formatPath(path, "snake_case") || "config", message, location: place.location })),
  );
}
