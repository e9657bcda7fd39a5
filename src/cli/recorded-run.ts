import path from "node:path";
import { type LoadedConfig, openRecorded, type RecordOptions } from "../config/load.ts";
import { ConfigError } from "../errors.ts";
import { unnamedCode } from "../records/named-code.ts";
import { readRecord } from "../records/run-record.ts";

/**
 * The config of a run that had begun, from its directory. Throws a ConfigError where there is none, and where it would choose code
 * to run: the directory may have come from elsewhere, so a person has to name that.
 */
export async function recordedRun(directory: string, options: RecordOptions): Promise<LoadedConfig> {
  const loaded = openRecorded((await readRecord(directory))["config"], path.join(directory, "run.json"), options);
  const keys = (options.set ?? []).map((assignment) => assignment.slice(0, assignment.indexOf("=")));
  const issues = unnamedCode(loaded.config).flatMap(({ key, value }) => {
    if (keys.some((given) => key === given || key.startsWith(`${given}.`))) return [];
    return [{ path: key, message: `is ${value} in run.json, which chooses no code to run; if you trust it, add --set ${key}=${value}` }];
  });
  if (issues.length > 0) throw new ConfigError(issues);
  return loaded;
}
