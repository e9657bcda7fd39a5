import { readFile } from "node:fs/promises";
import path from "node:path";
import { type LoadedConfig, type LoadOptions, openRecorded } from "../config/load.ts";
import { ConfigError } from "../errors.ts";
import { parseJson } from "../tensor/json.ts";

/** The config of a run that had begun, from its directory. Throws a ConfigError where there is none. */
export async function recordedRun(directory: string, options: LoadOptions): Promise<LoadedConfig> {
  const file = path.join(directory, "run.json");
  const record = parseJson(await readFile(file, "utf8").catch(() => "")) as { readonly config?: unknown } | undefined;
  if (record?.config !== undefined) return openRecorded(record.config, file, options);
  throw new ConfigError([{ path: "run-dir", message: `${directory} holds no run that had begun: start one with prelort run` }]);
}
