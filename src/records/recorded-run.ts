import path from "node:path";
import { type LoadedConfig, openRecorded, type RecordOptions } from "../config/load.ts";
import { ConfigError } from "../errors.ts";
import type { FileConfig } from "../config/schema.ts";
import { type NamedCode, unnamedCode } from "./named-code.ts";
import { readRecord } from "./run-record.ts";

/**
 * The recorded config of a run, from its directory. Throws a ConfigError if there is none, or if it alone names code to run: the
 * directory may come from somebody else, so a person has to name that code. `unnamedIn` finds the code that will run and has not been
 * named.
 */
export async function recordedRun(
  directory: string,
  options: RecordOptions,
  unnamedIn: (config: FileConfig) => readonly NamedCode[] = unnamedCode,
): Promise<LoadedConfig> {
  const loaded = openRecorded((await readRecord(directory))["config"], path.join(directory, "run.json"), options);
  const keys = (options.set ?? []).map((assignment) => assignment.slice(0, assignment.indexOf("=")));
  const issues = unnamedIn(loaded.config).flatMap(({ key, value }) => {
    if (keys.some((given) => key === given || key.startsWith(`${given}.`))) return [];
    return [
      { path: key, message: `is ${value}, but code that only run.json names is not run: if you trust it, add --set ${key}=${value}` },
    ];
  });
  if (issues.length > 0) throw new ConfigError(issues);
  return loaded;
}
