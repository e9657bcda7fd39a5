import { statSync } from "node:fs";
import path from "node:path";
import { Command } from "commander";
import { buildRun } from "../config/build.ts";
import { type LoadedConfig, openConfig, withConfig } from "../config/load.ts";
import { formatNumber, formatPercent } from "../report/format.ts";
import { shownMetric } from "../report/metric-names.ts";
import type { Table } from "../report/tables.ts";
import { renderTextTable } from "../report/text-table.ts";
import { visibleIn } from "../report/visible.ts";
import { type AdapterEvaluation, evaluateAdapter } from "../server/evaluate-adapter.ts";
import type { TierMetrics } from "../records/metrics.ts";
import { isThere } from "../base/read-file.ts";
import { roundName, wholeNumber } from "./arguments.ts";
import { onInterrupt } from "./interrupt.ts";
import { complain, outputWidth, print, printJson } from "./output.ts";
import { recordedRun } from "../records/recorded-run.ts";

interface EvaluateCommandOptions {
  readonly adapter?: string;
  readonly r: readonly number[];
  readonly round?: number | "best";
  readonly data?: string;
  readonly split?: string;
  readonly set: readonly string[];
  readonly json: boolean;
}

export function evaluateCommand(): Command {
  return new Command("evaluate")
    .description("evaluate an adapter at its ranks, on the held-out examples or on others; trains nothing")
    .argument("<run-dir or config>", "run directory with the adapter, or a YAML file together with --adapter")
    .option("--adapter <folder>", "another adapter: a PEFT folder or a run directory")
    .option("--r <n>", "rank to evaluate; may be repeated; default: all tiers", wholeNumbers, [])
    .option("--round <n>", "evaluate the run's adapter after this round, or the best; default: the last committed", roundName)
    .option("--data <path>", "evaluate on these examples (data.eval_path); limit their number with --set data.eval_examples=<n>")
    .option("--split <name>", "evaluate on this split (data.eval_split)")
    .option("--set <key=value>", "override a key of the config", (value: string, previous: string[]) => [...previous, value], [])
    .option("--json", "print the metrics as JSON", false)
    .action(run);
}

async function run(source: string, options: EvaluateCommandOptions): Promise<void> {
  const interrupt = onInterrupt(complain);
  try {
    const loaded = await configOf(source, options);
    if (!options.json) print("preparing the data and loading the model …");
    const ranks = options.r.length > 0 ? options.r : undefined;
    const found = await withConfig(loaded, (config) =>
      evaluateAdapter({ ...buildRun(config), ranks, round: options.round, signal: interrupt.signal }),
    );
    if (options.json) printJson(found);
    else print(describe(visibleIn(found)));
  } finally {
    interrupt.dispose();
  }
}

/** More examples than any file has. */
const ALL = 2 ** 31 - 1;

async function configOf(source: string, { adapter, data, split, set }: EvaluateCommandOptions): Promise<LoadedConfig> {
  const assign = (option: string, key: string, value: unknown) => ({ option, assignment: `${key}=${JSON.stringify(value)}` });
  const isRun = isThere(source) && statSync(source).isDirectory() && isThere(path.join(source, "run.json"));
  const named = data !== undefined ? "--data" : split !== undefined ? "--split" : undefined;
  const given = [
    ...(isRun ? [assign("run-dir", "lora.init_from", path.resolve(source))] : []),
    ...(adapter !== undefined ? [assign("--adapter", "lora.init_from", adapter)] : []),
    ...(data !== undefined ? [assign("--data", "data.eval_path", data)] : []),
    ...(split !== undefined ? [assign("--split", "data.eval_split", split)] : []),
    // Named examples are all evaluated, whatever number the run held out.
    ...(named !== undefined ? [assign(named, "data.eval_examples", ALL)] : []),
  ];
  return isRun
    ? recordedRun(source, { given, set, inScript: "evaluateAdapter({ … }), with the run as lora.init_from" })
    : openConfig(source, { given, set });
}

function describe({ byTier, remarks }: AdapterEvaluation): string {
  const measures: readonly { readonly name: string; of(tier: TierMetrics): number | null; show(value: number | null): string }[] = [
    { name: "loss", of: ({ loss }) => loss, show: formatNumber },
    { name: "perplexity", of: ({ perplexity }) => perplexity, show: (value) => formatNumber(value, 2) },
    { name: "accuracy", of: ({ accuracy }) => accuracy, show: formatPercent },
    { name: "macro-F1", of: ({ macroF1 }) => macroF1, show: formatPercent },
    { name: "ECE", of: ({ ece }) => ece, show: formatPercent },
    { name: "bits per byte", of: ({ bitsPerByte }) => bitsPerByte, show: formatNumber },
    { name: "ROUGE-L", of: ({ rougeL }) => rougeL, show: formatPercent },
    ...(byTier[0]?.own ?? []).map((metric, index) => {
      const { name, format } = shownMetric(metric.name);
      return { name, of: ({ own }: TierMetrics) => own[index]?.value ?? null, show: format };
    }),
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
  return [...previous, wholeNumber(text)];
}
