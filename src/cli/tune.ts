import path from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { tune } from "../compare/tune.ts";
import { tuneMarkdown, writeTune } from "../compare/write-tune.ts";
import { buildRun } from "../config/build.ts";
import { openConfig, withConfig } from "../config/load.ts";
import { formatSeconds } from "../report/format.ts";
import { positiveNumber, wholeNumber } from "./arguments.ts";
import { openLanes } from "./compare.ts";
import { ofMany, onInterrupt } from "./interrupt.ts";
import { complain, print } from "./output.ts";

interface TuneOptions {
  readonly set: readonly string[];
  readonly overwrite: boolean;
  readonly lr?: readonly number[];
  readonly seed?: readonly number[];
  readonly rounds?: number;
  readonly grid: boolean;
  readonly sideBySide?: number;
}

export function tuneCommand(): Command {
  return new Command("tune")
    .description("search for the learning rate by short runs of a config; write tune.json, tune.md and tune.svg; resumes a stopped search")
    .argument("<config>", "YAML file, such as configs/quickstart.yaml")
    .option("--lr <values>", "values of fit.lr to try, such as 0.001,0.003,0.01; default: the config's times 1/4 to 4", numbers)
    .option("--seed <seeds>", "seeds to try each with, not the config's own; default: the one after it", seeds)
    .option("--rounds <n>", "rounds of a trial; default: the config's", positiveNumber)
    .option(
      "--grid",
      "train every value to the end; otherwise the worse half is left out after about a quarter and half of the rounds",
      false,
    )
    .option("--set <key=value>", "override a key of the config", (value: string, previous: string[]) => [...previous, value], [])
    .option("--overwrite", "replace trials of another config", false)
    .addOption(
      new Option(
        "--side-by-side <n>",
        "trials at a time, which train as one batch: faster for small models without dropout, equal figures up to rounding",
      ).argParser(positiveNumber),
    )
    .action((file: string, options: TuneOptions) => run(file, options));
}

async function run(file: string, { set, lr, seed, sideBySide, ...options }: TuneOptions): Promise<void> {
  await withConfig(await openConfig(file, { set }), async (config) => {
    const input = buildRun(config);
    const interrupt = onInterrupt(complain);
    const started = performance.now();
    const lanes = sideBySide === undefined ? undefined : await openLanes(input.workers, sideBySide);
    try {
      const searching = tune(input, {
        ...options,
        values: lr,
        seeds: seed,
        ...(lanes && { lanes, jobs: sideBySide }),
        signal: interrupt.signal,
        onRun: ({ state, name }) => {
          if (state !== "kept") print(`[${formatSeconds((performance.now() - started) / 1000)}] ${state} ${name}`);
        },
      });
      const result = await ofMany("search", searching);
      const files = await writeTune(result, path.resolve(input.runsDir, result.name));
      print(`\n${tuneMarkdown(result)}${files.join("\n")}\n\nto use it: --set fit.lr=${result.chosen}`);
    } finally {
      await lanes?.close();
      interrupt.dispose();
    }
  });
}

function numbers(text: string): number[] {
  const values = text.split(",").map(Number);
  if (values.every((value) => value > 0 && Number.isFinite(value))) return values;
  throw new InvalidArgumentError("It must be numbers above 0, separated by commas.");
}

function seeds(text: string): number[] {
  return text.split(",").map(wholeNumber);
}
