import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { ConfigError } from "../errors.ts";
import { check, formatPath } from "./check.ts";
import { loadOwnPolicies } from "./load-own-policies.ts";
import { findPlace, locator } from "./locate.ts";
import { type Assignment, override, withShellSpelling } from "./override.ts";
import { withNamedStrategy } from "./named-strategy.ts";
import { ownPolicies } from "./own-policies.ts";
import { resolvedPaths, resolvePaths } from "./paths.ts";
import { withoutRemoved } from "./recorded-config.ts";
import { fileSchema, type FileConfig } from "./schema.ts";
import { isMap } from "./tree.ts";
import { placeKey, readYaml, type Finding, type Place } from "./yaml-source.ts";

export interface LoadOptions {
  /** Assignments `key.path=value`, in YAML's spelling. They win over the file, and later ones over earlier ones. */
  readonly set?: readonly string[] | undefined;
  /** Assignments that other options of a command, or another file, stand for; `set` wins over them. */
  readonly given?: readonly Assignment[] | undefined;
}

export interface RecordOptions extends LoadOptions {
  /** What to call in a script instead, if the run has policies from a script: the record has only their names. */
  readonly inScript: string;
}

/** A config that can locate in its file the problems found later, once the data and the model have been read. */
export interface LoadedConfig {
  /** Its policies of one's own are not loaded yet. */
  readonly config: FileConfig;
  /** For a ConfigError about the config, one with keys spelled as in the file, each at file:line:col; any other error unchanged. */
  locate(error: unknown): unknown;
}

/**
 * Reads and validates a config file, and loads the policies of your own that it names, which runs their code. Throws a ConfigError with
 * every problem, each at file:line:col.
 */
export async function loadConfig(file: string, options: LoadOptions = {}): Promise<FileConfig> {
  return withConfig(await openConfig(file, options), async (config) => config);
}

/** As loadConfig, and can locate problems found later. Runs no code. */
export async function openConfig(file: string, options: LoadOptions = {}): Promise<LoadedConfig> {
  return readConfig(await readText(file), file, options, { folder: dirname(file) });
}

/** The config of a run as its `run.json`, which is `file`, describes it. Its paths are those of the run. */
export function recordedConfig(config: unknown, file: string, options: RecordOptions): FileConfig {
  return openRecorded(config, file, options).config;
}

/** As recordedConfig, and can locate problems found later with keys that an option set. */
export function openRecorded(config: unknown, file: string, options: RecordOptions): LoadedConfig {
  return readConfig(JSON.stringify(config), file, options, { inScript: options.inScript });
}

/** Loads the policies of one's own and uses the config. A ConfigError that this throws is located in the config's file. */
export async function withConfig<T>(loaded: LoadedConfig, use: (config: FileConfig) => Promise<T>): Promise<T> {
  try {
    return await use(await loadOwnPolicies(loaded.config));
  } catch (error) {
    throw loaded.locate(error);
  }
}

/** `folder` is what paths in the file are relative to; a record has none, since its paths are absolute. */
interface Origin {
  readonly folder?: string;
  readonly inScript?: string;
}

function readConfig(text: string, file: string, { set = [], given = [] }: LoadOptions, { folder, inScript }: Origin): LoadedConfig {
  const start: Place = { location: `${file}:1:1`, inFile: true, order: 0 };
  const read = readYaml(text, file);
  if (read.broken) throw configError(read.findings);
  if (!isMap(read.value)) throw configError([{ path: [], message: "must be a map of keys", place: start }]);

  const assignments: readonly Assignment[] = [...given, ...set.map((assignment) => ({ assignment, option: "--set" }))];
  const shell = assignments.filter(({ option, writtenAt }) => option === "--set" && !writtenAt).map(({ assignment }) => assignment);
  // First, so that an assignment may change a policy of a strategy that has a name.
  const whole = withNamedStrategy(read.value);
  const written = assignments.reduce(override, whole.problems.length > 0 ? read : { ...read, value: whole.value });
  const removed = inScript === undefined ? { value: written.value, problems: [] } : withoutRemoved(written.value);
  const named = withNamedStrategy(removed.value);
  const source = resolvePaths({ ...written, value: named.value }, folder);
  const { value, problems = [] } = check(fileSchema, source.value, "snake_case");
  const ofRecord = inScript === undefined ? [] : [...ownPolicies(source.value, inScript), ...removed.problems];
  const own = [...ofRecord, ...named.problems];
  const others = problems.filter((problem) => !own.some(({ path }) => path.every((key, depth) => problem.path[depth] === key)));
  const findings = [
    ...[...own, ...others].map((problem) => ({ ...withShellSpelling(problem, shell), place: findPlace(source, problem) ?? start })),
    ...source.findings,
  ];
  if (value === undefined || findings.length > 0) throw configError(findings);
  return { config: value, locate: locator(source, start, folder === undefined, resolvedPaths(written, source)) };
}

/** Text of a config file. Throws a ConfigError if it cannot be read. */
export async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const reason = code === "ENOENT" ? "there is no such file" : `the file cannot be read: ${message}`;
    throw new ConfigError([{ path: "config", message: reason, location: file, isArgument: true }]);
  }
}

/** With one issue for each path, the first that was found, in the order of reading. */
function configError(findings: readonly Finding[]): ConfigError {
  const byPath = new Map(findings.toReversed().map((finding) => [placeKey(finding.path), finding]));
  const issues = findings.filter((finding) => byPath.get(placeKey(finding.path)) === finding);
  issues.sort((a, b) => a.place.order - b.place.order);
  return new ConfigError(
    issues.map(({ path, message, place }) => ({ path: formatPath(path, "snake_case") || "config", message, location: place.location })),
  );
}
