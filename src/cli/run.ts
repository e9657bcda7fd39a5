import process from "node:process";
import { Command } from "commander";
import { buildRun } from "../config/build.ts";
import { loadConfig } from "../config/load.ts";
import { writeReport } from "../report/html.ts";
import { federate } from "../server/federate.ts";
import { onInterrupt } from "./interrupt.ts";
import { jsonReporter } from "./reporters/json.ts";
import { plainReporter } from "./reporters/plain.ts";
import type { Reporter } from "./reporters/reporter.ts";
import { terminalReporter } from "./reporters/terminal.ts";

interface RunOptions {
  readonly set: readonly string[];
  readonly json: boolean;
  readonly overwrite: boolean;
}

export function runCommand(): Command {
  return new Command("run")
    .description("train: start workers, run every server round, write the run directory and its report")
    .argument("<config>", "YAML file, such as configs/quickstart.yaml")
    .option(
      "--set <key=value>",
      "override a key of the config, such as --set workers.count=1",
      (value: string, previous: string[]) => [...previous, value],
      [],
    )
    .option("--overwrite", "replace an earlier run of the same name", false)
    .option("--json", "print one JSON event a line instead of a display", false)
    .action(run);
}

async function run(file: string, { set, json, overwrite }: RunOptions): Promise<void> {
  const config = buildRun(await loadConfig(file, { set }));
  const reporter = chooseReporter(json);
  const interrupt = onInterrupt((line) => process.stderr.write(`${line}\n`));
  try {
    const run = federate({ ...config, overwrite, signal: interrupt.signal });
    for await (const event of run) reporter.event(event);
    const { directory } = await run.result;
    const report = await writeReport(directory);
    reporter.close();
    if (!json) process.stdout.write(`report:    ${report}\n`);
  } finally {
    reporter.close();
    interrupt.dispose();
  }
}

function chooseReporter(json: boolean): Reporter {
  if (json) return jsonReporter({ stream: process.stdout });
  return process.stdout.isTTY ? terminalReporter({ stream: process.stdout }) : plainReporter({ stream: process.stdout });
}
