import path from "node:path";
import { stringify } from "yaml";
import { isMap } from "../config/tree.ts";
import type { Made } from "../artifacts/save-trained.ts";
import { readRun, type RecordedRun } from "../records/read-run.ts";
import type { Interval, RoundMetrics, TierMetrics } from "../records/metrics.ts";
import { cutSnippet, loadSnippet } from "./card-snippets.ts";
import { formatCount, formatNumber, plural } from "./format.ts";
import { shownMetric } from "./metric-names.ts";
import { type Quality, qualityOf } from "./quality.ts";
import { total } from "./tails.ts";
import { visibleLine } from "./visible.ts";

export interface CardOptions {
  /** Licence of the adapter, an identifier as the Hugging Face hub lists them, such as `apache-2.0`. */
  readonly license?: string | undefined;
  /** Licence of the data. */
  readonly dataLicense?: string | undefined;
}

/**
 * The files that make an export shareable: `README.md`, a model card as the Hugging Face hub reads it, and `prelort.config.json`, with
 * which the run can be repeated. Paths of this machine are cut to their last part.
 *
 * Throws a PrelortError if the run's records cannot be read.
 */
export async function cardFiles(directory: string, made: Made, options: CardOptions = {}): Promise<Readonly<Record<string, string>>> {
  const run = await readRun(directory);
  return {
    "README.md": renderCard(run, made, options),
    [CONFIG]: `${JSON.stringify(shareable(run.record.config), null, 2)}\n`,
  };
}

export const CONFIG = "prelort.config.json";

export function renderCard(run: RecordedRun, made: Made, { license, dataLicense }: CardOptions = {}): string {
  const { record, clients } = run;
  const { data } = record.config;
  const [base, source] = [localName(made.base), localName(data.path)];
  const metrics = run.rounds.find(({ round, byTier }) => round === made.round && byTier.length > 0);
  const kind = made.merged
    ? `A whole model: ${base} with a LoRA adapter of rank ${made.r} merged in`
    : `A LoRA adapter of rank ${made.r} for ${base}`;
  const unknown = "not stated by those who trained it";
  return [
    `---\n${stringify(frontMatter(run, made, license)).trimEnd()}\n---`,
    `# ${made.run}`,
    `${kind}, trained with prelort ([PreLort, arXiv 2606.15963](https://arxiv.org/abs/2606.15963)) over ${plural(clients.ids.length, "client")} that train at the ranks their devices afford. Method: ${record.method.name}. ${record.method.note}`.trimEnd(),
    `## Load it\n\n${loadSnippet(record, made)}`,
    ...(made.merged || made.r === 1 ? [] : [`## Use a lower rank\n\n${cutSnippet(made.r)}`]),
    `## Quality\n\n${metrics ? quality(run, metrics, made) : `The adapter after round ${made.round} was not evaluated.`}`,
    `## Training\n\n${facts(run, made)
      .map(([name, value]) => `- ${name}: ${value}`)
      .join("\n")}`,
    `## Licences\n\n- this ${made.merged ? "model" : "adapter"}: ${license ?? unknown}\n- the data, ${source}: ${dataLicense ?? unknown}\n- the base model, ${base}: see its own card; its licence holds for what is made from it too`,
    `## Repeat it\n\n\`${CONFIG}\` is the run's whole config. With the data and the base model where it says, the same versions and the same kind of machine,\n\n\`\`\`sh\nnpx prelort run ${CONFIG}\n\`\`\`\n\n${doubts(run)}`,
  ]
    .join("\n\n")
    .concat("\n");
}

/** What the hub reads. Names that are only folders of a machine are left out, since the hub would look for them. */
function frontMatter(run: RecordedRun, made: Made, license: string | undefined): object {
  const { model, data } = run.record.config;
  const isOnHub = (name: string) => !path.isAbsolute(name) && /^[\w.-]+\/[\w.-]+$/.test(name);
  return {
    license: license ?? "unknown",
    library_name: made.merged ? "transformers" : "peft",
    ...(isOnHub(made.base) ? { base_model: made.base } : {}),
    ...(isOnHub(data.path) ? { datasets: [data.path] } : {}),
    ...(Object.hasOwn(PIPELINES, model.task) ? { pipeline_tag: PIPELINES[model.task] } : {}),
    tags: ["lora", "federated-learning", "prelort"],
  };
}

const PIPELINES: Readonly<Record<string, string>> = {
  "causal-lm": "text-generation",
  "seq2seq-lm": "text2text-generation",
  "sequence-classification": "text-classification",
  "image-classification": "image-classification",
};

/** A row for each tier that is in the export. */
function quality(run: RecordedRun, { byTier, merged }: RoundMetrics, made: Made): string {
  const measure = qualityOf(run.rounds);
  const tiers = byTier.filter(({ r }) => r <= made.r);
  const own = (byTier[0]?.own ?? []).filter(({ name }) => !(measure.name === "F1" && name === "f1")).map(({ name }) => name);
  const columns = ["rank", measure.name, ...(measure.name === "loss" ? [] : ["loss"]), ...own.map((name) => shownMetric(name).name)];
  const row = (rank: string, tier: TierMetrics) => {
    const interval = (name: string, format: (value: number | null) => string) => between(tier.intervals, name, format);
    return [
      rank,
      `${measure.format(measure.of(tier))}${ofMeasure(measure, tier)}`,
      ...(measure.name === "loss" ? [] : [`${formatNumber(tier.loss)}${interval("loss", formatNumber)}`]),
      ...own.map((name) => {
        const { format } = shownMetric(name);
        return `${format(tier.own.find((metric) => metric.name === name)?.value ?? null)}${interval(name, format)}`;
      }),
    ];
  };
  const rows = [...tiers.map((tier) => row(String(tier.r), tier)), ...(made.merged && merged ? [row("merged", merged)] : [])];
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  const table = [line(columns), line(columns.map(() => "---:")), ...rows.map(line)].join("\n");
  const about = `On ${plural(run.record.eval_examples, "example")} that no client trained on, after round ${made.round}; in brackets 95 % intervals over these examples.`;
  const unevaluated = tiers.some(({ r }) => r === made.r) ? "" : ` Rank ${made.r} itself was not evaluated.`;
  return `${about}${unevaluated}\n\n${table}`;
}

function ofMeasure({ interval, format }: Quality, tier: TierMetrics): string {
  const found = interval(tier);
  return found ? ` (${format(found.low)} to ${format(found.high)})` : "";
}

function between(intervals: readonly Interval[] | undefined, name: string, format: (value: number | null) => string): string {
  const found = intervals?.find((interval) => interval.name === name);
  return found ? ` (${format(found.low)} to ${format(found.high)})` : "";
}

function facts({ record, clients }: RecordedRun, made: Made): readonly (readonly [name: string, value: string])[] {
  const { data, rounds } = record.config;
  const tokens = total(clients.tokens);
  const tiers = new Map<number, number>();
  for (const r of clients.r) tiers.set(r, (tiers.get(r) ?? 0) + 1);
  const ranks = [...tiers].toSorted(([a], [b]) => b - a).map(([r, count]) => `${count} at rank ${r}`);
  return [
    ["clients", `${formatCount(clients.ids.length)}: ${ranks.join(", ")}`],
    [
      "data",
      [localName(data.path), plural(total(clients.n), "training example"), ...(tokens > 0 ? [plural(tokens, "token")] : [])].join(", "),
    ],
    ["rounds", made.round === rounds ? String(rounds) : `${made.round} of ${rounds}`],
    ["prelort", record.prelort],
    ...Object.entries(record.versions)
      .filter(([name]) => ["torch", "transformers", "peft"].includes(name))
      .map(([name, version]) => [name, version] as const),
  ];
}

function doubts({ record: { doubts: found } }: RecordedRun): string {
  return found.length === 0 ? "gives the same adapters to the byte." : `gives a similar run, not the same bytes: ${found.join("; ")}.`;
}

/** Of a path the last part; names as they are. */
function localName(nameOrPath: string): string {
  return visibleLine(path.isAbsolute(nameOrPath) ? path.basename(nameOrPath) : nameOrPath.replace(/^prelort:/, ""));
}

/** A config without paths of this machine: each becomes its last part, to be looked for beside the config. */
function shareable(value: unknown): unknown {
  if (typeof value === "string") return path.isAbsolute(value) ? `./${path.basename(value)}` : value;
  if (Array.isArray(value)) return value.map(shareable);
  if (!isMap(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, shareable(part)]));
}
