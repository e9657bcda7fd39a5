import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { ConfigError } from "../errors.ts";
import { check, formatPath } from "./check.ts";
import { findPlace, locator } from "./locate.ts";
import { type Assignment, override, withQuoteHint } from "./override.ts";
import { ownPolicies } from "./own-policies.ts";
import { resolvedPaths, resolvePaths } from "./paths.ts";
import { withoutRemoved } from "./recorded-config.ts";
import { fileSchema, type FileConfig } from "./schema.ts";
import { isMap } from "./tree.ts";
import { placeKey, readYaml, type Finding, type Place } from "./yaml-source.ts";

export interface LoadOptions {
  /** `key.path=value` each, in YAML's spelling. They win over the file, and a later one over an earlier. */
  readonly set?: readonly string[] | undefined;
  /** Such assignments that other options of a command stand for; `set` wins over them. */
  readonly given?: readonly Assignment[] | undefined;
}

export interface RecordOptions extends LoadOptions {
  /** What a script calls instead, where it brought policies of its own: of those the record has only the names. */
  readonly inScript: string;
}

/** A config that can locate in its file what is found wrong later, once the data and the model have been read. */
export interface LoadedConfig {
  readonly config: FileConfig;
  /** Of a ConfigError about the config another that tells keys as they are spelt in the file, at file:line:col. */
  locate(error: unknown): unknown;
}

/** Reads and validates a config file. Throws a ConfigError with everything that is wrong, each at file:line:col. */
export async function loadConfig(file: string, options: LoadOptions = {}): Promise<FileConfig> {
  return (await openConfig(file, options)).config;
}

/** As loadConfig, with a way to locate what is found wrong later. */
export async function openConfig(file: string, options: LoadOptions = {}): Promise<LoadedConfig> {
  return readConfig(await readText(file), file, options, { folder: dirname(file) });
}

/** The config of a run, as its `run.json`, which is `file`, describes it: its paths lead where they led. */
export function recordedConfig(config: unknown, file: string, options: RecordOptions): FileConfig {
  return openRecorded(config, file, options).config;
}

/** As recordedConfig, with a way to locate what is found wrong later, as far as it was given by an option. */
export function openRecorded(config: unknown, file: string, options: RecordOptions): LoadedConfig {
  return readConfig(JSON.stringify(config), file, options, { inScript: options.inScript });
}

/** Uses a config. A ConfigError on the way is thrown with the places of its keys. */
export async function withConfig<T>(loaded: LoadedConfig, use: (config: FileConfig) => Promise<T>): Promise<T> {
  try {
    return await use(loaded.config);
  } catch (error) {
    throw loaded.locate(error);
  }
}

/** `folder`: what paths in the file are relative to; not there of a record, whose paths are absolute. */
interface Origin {
  readonly folder?: string;
  readonly inScript?: string;
}

function readConfig(text: string, file: string, { set = [], given = [] }: LoadOptions, { folder, inScript }: Origin): LoadedConfig {
  const start: Place = { location: `${file}:1:1`, inFile: true, order: 0 };
  const read = readYaml(text, file);
  if (read.broken) throw configError(read.findings);
  if (!isMap(read.value)) throw configError([{ path: [], message: "must hold a map of keys", place: start }]);

  const assignments = [...given, ...set.map((assignment) => ({ assignment, option: "--set" }))];
  const written = assignments.reduce(override, read);
  const removed = inScript === undefined ? { value: written.value, problems: [] } : withoutRemoved(written.value);
  const source = resolvePaths({ ...written, value: removed.value }, folder);
  const { value, problems = [] } = check(fileSchema, source.value, "snake_case");
  const own = inScript === undefined ? [] : [...ownPolicies(source.value, inScript), ...removed.problems];
  const others = problems.filter((problem) => !own.some((told) => told.path.every((key, depth) => problem.path[depth] === key)));
  const findings = [
    ...[...own, ...others].map((problem) => ({ ...withQuoteHint(problem, set), place: findPlace(source, problem) ?? start })),
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

/** In the order of reading, one issue for each path: the first that was found. */
function configError(findings: readonly Finding[]): ConfigError {
  const byPath = new Map(findings.toReversed().map((finding) => [placeKey(finding.path), finding]));
  const issues = findings.filter((finding) => byPath.get(placeKey(finding.path)) === finding);
  issues.sort((a, b) => a.place.order - b.place.order);
  return new ConfigError(
    issues.map(({ path, message, place }) => ({ path: formatPath(path, "snake_case") || "config", message, location: place.location })),
  );
}
