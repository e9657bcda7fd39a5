import path from "node:path";
import { type LoadOptions, recordedConfig } from "../config/load.ts";
import type { FileConfig } from "../config/schema.ts";
import { ConfigError, type ConfigIssue } from "../errors.ts";
import { readRecord } from "../server/run-record.ts";
import { environmentPython } from "../workers/python.ts";

/**
 * The config of a run that had begun, from its directory. Throws a ConfigError where there is none, and where it would choose code
 * to run: the directory may have come from elsewhere, so a person has to name that.
 */
export async function recordedRun(directory: string, options: LoadOptions): Promise<FileConfig> {
  const config = recordedConfig((await readRecord(directory))["config"], path.join(directory, "run.json"), options);
  const issues = unnamedCode(config, options.set ?? []);
  if (issues.length > 0) throw new ConfigError(issues);
  return config;
}

function unnamedCode({ workers, model }: FileConfig, set: readonly string[]): readonly ConfigIssue[] {
  const keys = set.map((assignment) => assignment.slice(0, assignment.indexOf("=")));
  const isNamed = (key: string) => keys.some((given) => key === given || key.startsWith(`${given}.`));
  const chosen: readonly (readonly [key: string, value: string | undefined])[] = [
    ["workers.python", workers.python !== undefined && path.resolve(workers.python) !== environmentPython() ? workers.python : undefined],
    ["model.task_folder", model.task.includes(":") ? path.resolve(model.taskFolder ?? ".") : undefined],
    ["model.trust_remote_code", model.trustRemoteCode ? "true" : undefined],
  ];
  return chosen.flatMap(([key, value]) => {
    if (value === undefined || isNamed(key)) return [];
    return [{ path: key, message: `is ${value} in run.json, which chooses no code to run; if you trust it, add --set ${key}=${value}` }];
  });
}
