import { existsSync } from "node:fs";
import path from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { buildRun } from "../config/build.ts";
import { loadConfig } from "../config/load.ts";
import { formatNumber, formatPercent } from "../report/format.ts";
import type { Table } from "../report/tables.ts";
import { renderTextTable } from "../report/text-table.ts";
import { visibleIn } from "../report/visible.ts";
import type { RunConfig } from "../config/schema.ts";
import { type AdapterEvaluation, evaluateAdapter } from "../server/evaluate-adapter.ts";
import type { TierMetrics } from "../server/events.ts";
import { onInterrupt } from "./interrupt.ts";
import { complain, outputWidth, print, printJson } from "./output.ts";
import { recordedRun } from "./recorded-run.ts";

interface EvaluateCommandOptions {
  readonly adapter?: string;
  readonly r: readonly number[];
  readonly data?: string;
  readonly split?: string;
  readonly set: readonly string[];
  readonly json: boolean;
}

export function evaluateCommand(): Command {
  return new Command("evaluate")
    .description("train nothing: judge an adapter at its ranks, on the held-out examples or on others")
    .argument("<run-dir or config>", "a run directory, whose adapter it is, or a YAML file with --adapter")
    .option("--adapter <folder>", "another adapter: a folder that PEFT wrote, or a run directory")
    .option("--r <n>", "a rank; may be given several times; all tiers by default", wholeNumbers, [])
    .option("--data <path>", "judge on these examples, as many as data.eval_examples (data.eval_path)")
    .option("--split <name>", "and this split of them (data.eval_split)")
    .option("--set <key=value>", "override a key of the config", (value: string, previous: string[]) => [...previous, value], [])
    .option("--json", "print the figures as JSON", false)
    .action(run);
}

async function run(source: string, options: EvaluateCommandOptions): Promise<void> {
  const interrupt = onInterrupt(complain);
  try {
    const config = await configOf(source, options);
    if (!options.json) print("preparing the data and loading the model …");
    const ranks = options.r.length > 0 ? options.r : undefined;
    const found = await evaluateAdapter({ ...config, ranks, signal: interrupt.signal });
    if (options.json) printJson(found);
    else print(describe(visibleIn(found)));
  } finally {
    interrupt.dispose();
  }
}

async function configOf(source: string, { adapter, data, split, set }: EvaluateCommandOptions): Promise<RunConfig> {
  const given = [
    ...(adapter === undefined ? [] : [`lora.init_from=${JSON.stringify(path.resolve(adapter))}`]),
    // What is not here may be a dataset on the hub.
    ...(data === undefined ? [] : [`data.eval_path=${JSON.stringify(existsSync(data) ? path.resolve(data) : data)}`]),
    ...(split === undefined ? [] : [`data.eval_split=${JSON.stringify(split)}`]),
    ...set,
  ];
  if (!existsSync(path.join(source, "run.json"))) return buildRun(await loadConfig(source, { set: given }));
  return buildRun(await recordedRun(source, { set: [`lora.init_from=${JSON.stringify(path.resolve(source))}`, ...given] }));
}

function describe({ byTier, remarks }: AdapterEvaluation): string {
  const measures: readonly { readonly name: string; of(tier: TierMetrics): number | null; show(value: number | null): string }[] = [
    { name: "loss", of: ({ loss }) => loss, show: formatNumber },
    { name: "perplexity", of: ({ perplexity }) => perplexity, show: (value) => formatNumber(value, 2) },
    { name: "accuracy", of: ({ accuracy }) => accuracy, show: formatPercent },
    { name: "macro-F1", of: ({ macroF1 }) => macroF1, show: formatPercent },
    { name: "ROUGE-L", of: ({ rougeL }) => rougeL, show: formatPercent },
    ...(byTier[0]?.own ?? []).map(({ name }, place) => ({
      name,
      of: ({ own }: TierMetrics) => own[place]?.value ?? null,
      show: (value: number | null) => formatNumber(value),
    })),
  ];
  const shown = measures.filter(({ of }) => byTier.some((tier) => of(tier) !== null));
  const table: Table = {
    title: `${byTier[0]?.examples ?? 0} examples`,
    columns: ["rank", ...shown.map(({ name }) => name)],
    rows: byTier.map((tier) => [String(tier.r), ...shown.map(({ of, show }) => show(of(tier)))]),
  };
  return [renderTextTable(table, outputWidth()), ...remarks.map((remark) => `note: ${remark}`)].join("\n");
}

function wholeNumbers(text: string, previous: readonly number[]): readonly number[] {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("It must be a whole number.");
  return [...previous, Number(text)];
}
