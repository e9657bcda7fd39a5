import path from "node:path";
import { Command, Option } from "commander";
import type { StoredDtype } from "../artifacts/peft-folder.ts";
import { visibleIn } from "../report/visible.ts";
import { exportRun } from "../artifacts/export-run.ts";
import type { Made, Saved } from "../artifacts/save-trained.ts";
import { argumentError } from "../errors.ts";
import { cardFiles } from "../report/model-card.ts";
import { roundName, wholeNumber } from "./arguments.ts";
import { onInterrupt } from "./interrupt.ts";
import { complain, print } from "./output.ts";

interface ExportOptions {
  readonly r?: number;
  readonly round?: number | "best";
  readonly merge: boolean;
  readonly dtype?: StoredDtype;
  readonly out?: string;
  readonly baseModel?: string;
  readonly card: boolean;
  readonly license?: string;
  readonly dataLicense?: string;
  readonly overwrite: boolean;
  readonly python?: string;
  readonly taskFolder?: string;
  readonly trustRemoteCode: boolean;
}

export function exportCommand(): Command {
  return new Command("export")
    .description("export a run's result: a PEFT adapter of any rank, or the merged model")
    .argument("<run-dir>", "run directory, such as runs/quickstart; finished, interrupted or in progress")
    .option("--r <n>", "rank, at most the run's; default: the run's", wholeNumber)
    .option("--round <n>", "export the adapter after this round, or the best; default: the last committed", roundName)
    .option("--merge", "write the whole model, with the adapter merged into its base", false)
    .addOption(
      new Option("--dtype <dtype>", "dtype to write; default: f32, or with --merge the dtype in which the run loaded its base").choices([
        "f32",
        "bf16",
        "f16",
      ]),
    )
    .option("--base-model <name>", "what adapter_config.json and the card call the base, such as its name on the Hugging Face hub")
    .option("--card", "add a model card (README.md) and prelort.config.json, to share the export", false)
    .option("--license <id>", "with --card: licence of the export, as the Hugging Face hub names it, such as apache-2.0")
    .option("--data-license <id>", "with --card: licence of the data")
    .option("--out <folder>", "folder to create; default: named after run and rank, in the working directory")
    .option("--overwrite", "replace what an earlier export wrote there", false)
    .option("--python <path>", "with --merge: Python interpreter; default: the run's")
    .option(
      "--task-folder <folder>",
      "with --merge: folder of the run's custom task, if the run was trained on another machine; runs its code",
    )
    .option("--trust-remote-code", "with --merge: run the Python code that comes with the model, if the run did", false)
    .action(run);
}

async function run(directory: string, options: ExportOptions): Promise<void> {
  const interrupt = onInterrupt(complain);
  try {
    const { card, license, dataLicense, ...rest } = options;
    if (!card && (license !== undefined || dataLicense !== undefined))
      throw argumentError(license === undefined ? "data-license" : "license", "needs --card, which tells it");
    const files = card ? (made: Made) => cardFiles(directory, made, { license, dataLicense }) : undefined;
    const saved = await exportRun(directory, { ...rest, files, signal: interrupt.signal });
    print(describe(visibleIn(saved)).join("\n"));
  } finally {
    interrupt.dispose();
  }
}

function describe({ directory, run, round, r, merged, dtype, remarks }: Saved): readonly string[] {
  const what = merged ? "whole model" : "PEFT adapter";
  const after = round === 0 ? "before training" : `after round ${round}`;
  return [
    `${what} of ${run} ${after}, rank ${r}, ${dtype}: ${path.relative(".", directory) || "."}`,
    ...remarks.map((line) => `note: ${line}`),
  ];
}
