import process from "node:process";
import { Command } from "commander";
import { buildRun } from "../config/build.ts";
import { openConfig, withConfig } from "../config/load.ts";
import { writeReport } from "../report/html.ts";
import { federate, type FederateOptions } from "../server/federate.ts";
import { onInterrupt } from "./interrupt.ts";
import { complain, print } from "./output.ts";
import { jsonReporter } from "./reporters/json.ts";
import { plainReporter } from "./reporters/plain.ts";
import type { Reporter } from "./reporters/reporter.ts";
import { terminalReporter } from "./reporters/terminal.ts";
import type { Ui } from "../ui/serve-ui.ts";
import { openUi, type UiAddress, withAddress } from "./ui.ts";

interface RunOptions extends ShownOptions {
  readonly set: readonly string[];
  readonly overwrite: boolean;
}

/** How a run is shown while it is under way. */
export interface ShownOptions extends UiAddress {
  readonly json: boolean;
  /** Serves the page of `prelort ui` until the run ends. */
  readonly ui: boolean;
}

export function runCommand(): Command {
  const command = new Command("run")
    .description("train: start workers, run every server round, write the run directory and its report")
    .argument("<config>", "YAML file, such as configs/quickstart.yaml")
    .option("--overwrite", "replace an earlier run of the same name", false);
  return withRunOptions(command, "override a key of the config, such as --set workers.count=1").action(
    async (file: string, { set, overwrite, ...shown }: RunOptions) => {
      await withConfig(await openConfig(file, { set }), (config) => perform({ ...buildRun(config), overwrite }, shown));
    },
  );
}

/** The options of every command that runs a federation. */
export function withRunOptions(command: Command, set: string): Command {
  const shown = command
    .option("--set <key=value>", set, (value: string, previous: string[]) => [...previous, value], [])
    .option("--json", "print one JSON event per line instead of a display", false)
    .option("--ui", "also show the run in a browser, as prelort ui does, until it ends", false);
  return withAddress(shown);
}

/** Runs a federation to its end, shows its progress, and writes its report. */
export async function perform(options: FederateOptions, shown: ShownOptions): Promise<void> {
  const { json } = shown;
  const ui = shown.ui ? await openRunUi(options, shown) : undefined;
  const reporter = chooseReporter(json);
  const interrupt = onInterrupt(complain);
  try {
    const run = federate({ ...options, signal: interrupt.signal });
    for await (const event of run) reporter.event(event);
    const { directory } = await run.result;
    const report = await writeReport(directory);
    reporter.close();
    if (!json) print(`report:    ${report}`);
  } finally {
    reporter.close();
    interrupt.dispose();
    await ui?.close();
  }
}

/** The page of the folder in which the run will be, opened at the run. */
async function openRunUi({ name, runsDir = "runs" }: FederateOptions, { host, port }: UiAddress): Promise<Ui> {
  const ui = await openUi({ folder: runsDir, ...(host !== undefined && { host }), ...(port !== undefined && { port }) });
  complain(`page:      ${ui.link(name)}`);
  return ui;
}

function chooseReporter(json: boolean): Reporter {
  if (json) return jsonReporter({ stream: process.stdout });
  return process.stdout.isTTY
    ? terminalReporter({ stream: process.stdout, errors: process.stderr })
    : plainReporter({ stream: process.stdout });
}
