import { readFile } from "node:fs/promises";
import path from "node:path";
import { Command } from "commander";
import { buildRun } from "../config/build.ts";
import { recordedConfig } from "../config/load.ts";
import { ConfigError } from "../errors.ts";
import { parseJson } from "../tensor/json.ts";
import { perform, withRunOptions } from "./run.ts";

export function resumeCommand(): Command {
  const command = new Command("resume")
    .description("go on with a run that was stopped, to the same bytes as if it had not been")
    .argument("<run-dir>", "run directory, such as runs/quickstart");
  return withRunOptions(command, "change how it is run, such as --set workers.count=1; what would make it another run is refused").action(
    resume,
  );
}

async function resume(directory: string, { set, json }: { readonly set: readonly string[]; readonly json: boolean }): Promise<void> {
  const file = path.join(directory, "run.json");
  const record = parseJson(await readFile(file, "utf8").catch(() => "")) as { readonly config?: unknown } | undefined;
  if (record?.config === undefined) {
    throw new ConfigError([{ path: "run-dir", message: `${directory} holds no run that had begun: start one with prelort run` }]);
  }
  const config = buildRun(recordedConfig(record.config, file, { set }));
  const root = path.resolve(directory);
  await perform({ ...config, name: path.basename(root), runsDir: path.dirname(root), resume: true }, { json });
}
