import { formatBytes, formatCount } from "../report/format.ts";
import { visibleLine } from "../report/visible.ts";
import type { TierMetrics } from "../records/metrics.ts";
import type { ComparisonResult } from "./compare.ts";
import type { Budget, Outcome, Summary } from "./outcome.ts";
import { confidence, holm, type Interval, spread } from "./statistics.ts";

/** The metric that methods are compared by: accuracy if the task has it, else loss. */
export interface Measure {
  readonly name: "accuracy" | "loss";
  readonly better: "higher" | "lower";
  /** What it is of, and its unit. */
  readonly explained: string;
  /** Of the axis. */
  readonly label: string;
  /** From the metric to what is shown: 100 for accuracy in %. */
  readonly factor: number;
  readonly digits: number;
  of(tier: TierMetrics): number | null;
  readonly area: keyof Summary;
  readonly worst: keyof Summary;
  readonly own: keyof Summary;
}

export function measureOf({ outcomes }: ComparisonResult): Measure {
  const has = (of: Measure["of"]) => outcomes.some(({ byTier }) => byTier.some((tier) => of(tier) !== null));
  const isLanguage = has(({ perplexity }) => perplexity);
  return has(({ accuracy }) => accuracy)
    ? {
        name: "accuracy",
        better: "higher",
        explained: "Accuracy on held-out examples, %",
        label: "accuracy, %",
        factor: 100,
        digits: 1,
        of: ({ accuracy }) => accuracy,
        area: "areaAccuracy",
        worst: "worstAccuracy",
        own: "ownAccuracy",
      }
    : {
        name: "loss",
        better: "lower",
        explained: isLanguage ? "Loss on held-out answer tokens, nats (perplexity is its exponential)" : "Loss on held-out examples",
        label: isLanguage ? "loss, nats" : "loss",
        factor: 1,
        digits: 3,
        of: ({ loss }) => loss,
        area: "areaLoss",
        worst: "worstLoss",
        own: "ownLoss",
      };
}

/** Outcomes at a budget. At equal compute, a method whose steps cost no more than plain ones keeps its outcomes at equal rounds. */
export function outcomesAt({ outcomes }: ComparisonResult, budget: Budget): readonly Outcome[] {
  return outcomes.filter((outcome) => outcome.budget === budget || (budget === "compute" && outcome.passesPerStep <= 1));
}

/** Null if there is no such tier. */
export function valueAt(byTier: readonly TierMetrics[], r: number, of: Measure["of"]): number | null {
  const tier = byTier.find((metrics) => metrics.r === r);
  return tier ? of(tier) : null;
}

/** The comparison as Markdown: for each budget the quality and cost of every method, then paired differences. */
export function comparisonMarkdown(result: ComparisonResult): string {
  const measure = measureOf(result);
  const { budgets } = result;
  const parts = [
    `# ${result.name}`,
    `Seeds ${result.seeds.join(", ")}. ${explain(measure)}`,
    ...(result.isSideBySide ? ["These runs trained side by side: their figures are those of single runs up to rounding."] : []),
    ...(budgets.includes("rounds") ? section(result, "rounds", measure, "Equal rounds") : []),
    ...(budgets.includes("compute") ? section(result, "compute", measure, "Equal compute") : []),
    ...(result.learningRates ? [learningRateTable(result)] : []),
    ...(result.missing.length > 0
      ? [`Runs that failed:\n\n${result.missing.map((line) => `- ${line.split("\n", 1)[0]}`).join("\n")}`]
      : []),
  ];
  return `${parts.join("\n\n")}\n`;
}

function explain({ name, explained }: Measure): string {
  return (
    `${explained}: mean ± standard deviation over the seeds, at each tier. *area*: under the rank–${name} curve over log₂ rank, divided by its ` +
    "width. *worst*: of the tiers. *own*: mean over the clients, each at its own rank on held-out examples of its own. *down*, *up*: " +
    "bytes of tensors that were moved."
  );
}

function section(result: ComparisonResult, budget: Budget, measure: Measure, title: string): string[] {
  const outcomes = outcomesAt(result, budget);
  return [`## ${title}`, qualityTable(result, outcomes, measure), differenceTable(result, outcomes, measure)];
}

function qualityTable({ tiers, seeds }: ComparisonResult, outcomes: readonly Outcome[], measure: Measure): string {
  const at = (r: number, of: (tier: TierMetrics) => number | null) => (outcome: Outcome) => valueAt(outcome.byTier, r, of);
  const [smallest, largest] = [tiers[0] ?? 1, tiers.at(-1) ?? 1];
  const showMean = (factor: number, digits: number) => (values: readonly (number | null)[]) => plusMinus(values, factor, digits);
  const quality = showMean(measure.factor, measure.digits);
  const columns: readonly Column[] = [
    ...tiers.map((r): Column => ({ title: `r=${r}`, value: at(r, measure.of), show: quality })),
    { title: measure.name === "accuracy" ? "area (AURAC)" : "area", value: ({ summary }) => summary[measure.area], show: quality },
    { title: "worst", value: ({ summary }) => summary[measure.worst], show: quality },
    { title: "own", value: ({ summary }) => summary[measure.own], show: quality },
    { title: `macro-F1 r=${largest}, %`, value: at(largest, ({ macroF1 }) => macroF1), show: showMean(100, 1) },
    { title: `ECE r=${largest}, %`, value: at(largest, ({ ece }) => ece), show: showMean(100, 1) },
    { title: `bits per byte r=${largest}`, value: at(largest, ({ bitsPerByte }) => bitsPerByte), show: showMean(1, 3) },
    { title: `ROUGE-L r=${smallest}, %`, value: at(smallest, ({ rougeL }) => rougeL), show: showMean(100, 1) },
    { title: `ROUGE-L r=${largest}, %`, value: at(largest, ({ rougeL }) => rougeL), show: showMean(100, 1) },
    { title: "local steps", value: ({ localSteps }) => localSteps, show: (values) => formatCount(Math.round(meanOf(values))) },
    { title: "passes", value: ({ passes }) => passes, show: (values) => formatCount(Math.round(meanOf(values))) },
    { title: "down", value: ({ bytesDown }) => bytesDown, show: (values) => formatBytes(meanOf(values)) },
    { title: "up", value: ({ bytesUp }) => bytesUp, show: (values) => formatBytes(meanOf(values)) },
  ];
  const shown = columns.filter(({ value }) => outcomes.some((outcome) => value(outcome) !== null));
  const rows = methodsOf(outcomes).map((method) => {
    const own = outcomes.filter((outcome) => outcome.method === method);
    const few = own.length < seeds.length ? ` (${own.length} of ${seeds.length} seeds)` : "";
    const failed = own.reduce((sum, { failedFits }) => sum + failedFits, 0);
    const note = failed > 0 ? ` (${failed} fits failed)` : "";
    return [`${method}${few}${note}`, ...shown.map(({ value, show }) => show(own.map(value)))];
  });
  return markdown(["method", ...shown.map(({ title }) => title)], rows);
}

interface Column {
  readonly title: string;
  value(outcome: Outcome): number | null;
  show(values: readonly (number | null)[]): string;
}

/** Reference − method, seed by seed. */
function differenceTable({ reference, tiers }: ComparisonResult, outcomes: readonly Outcome[], measure: Measure): string {
  const columns: readonly (readonly [string, (outcome: Outcome) => number | null])[] = [
    ["area", ({ summary }) => summary[measure.area]],
    ...tiers.map((r) => [`r=${r}`, ({ byTier }: Outcome) => valueAt(byTier, r, measure.of)] as const),
    ["worst", ({ summary }) => summary[measure.worst]],
    ["own", ({ summary }) => summary[measure.own]],
  ];
  const shown = columns.filter(([, value]) => outcomes.some((outcome) => value(outcome) !== null));
  const ofReference = new Map(outcomes.filter(({ method }) => method === reference).map((outcome) => [outcome.seed, outcome]));
  const methods = methodsOf(outcomes).filter((method) => method !== reference);
  const paired = methods.map((method) => outcomes.filter((outcome) => outcome.method === method && ofReference.has(outcome.seed)));
  const cells = shown.map(([, value]) => {
    const differences = paired.map((own) =>
      own.flatMap((outcome) => {
        const [a, b] = [value(ofReference.get(outcome.seed) as Outcome), value(outcome)];
        return a === null || b === null ? [] : [(a - b) * measure.factor];
      }),
    );
    const intervals = differences.map(confidence);
    const differs = holm(intervals.map(({ p }) => p));
    return differences.map((each, row) => {
      const lost = (paired[row]?.length ?? 0) - each.length;
      return each.length === 0
        ? "–"
        : `${showInterval(intervals[row] as Interval, differs[row], measure)}${lost > 0 ? ` (${lost} not finite)` : ""}`;
    });
  });
  const rows = methods.map((method, row) => [method, String(paired[row]?.length), ...cells.map((column) => column[row] as string)]);
  const favourable = measure.better === "higher" ? "Above zero" : "Below zero";
  const legend =
    `${reference} minus each method, paired by seed: mean difference ± half of its 95 % interval (Student's t). ${favourable} ${reference} is ` +
    "better. Each interval is that of a single difference: of many, some leave zero out by chance. Bold is what differs from zero after Holm's " +
    "correction over the methods of its column (p < 0.05 together).";
  return `${legend}\n\n${markdown(["against", "seeds", ...shown.map(([title]) => title)], rows)}`;
}

function showInterval({ mean, half }: Interval, differs: boolean | undefined, { digits }: Measure): string {
  const text = `${signed(mean, digits)}${half === null ? "" : ` ± ${half.toFixed(digits)}`}`;
  return differs ? `**${text}**` : text;
}

function learningRateTable({ learningRates }: ComparisonResult): string {
  const rows = Object.entries(learningRates ?? {}).map(([family, { chosen, method, tried }]) => [
    family,
    method,
    tried.map(({ lr, loss }) => `${lr}: ${loss === null ? "not finite" : loss.toFixed(3)}`).join(", "),
    String(chosen),
  ]);
  return `## Learning rates\n\n${markdown(["family", "tuned with", "mean loss of each", "taken"], rows)}`;
}

function methodsOf(outcomes: readonly Outcome[]): readonly string[] {
  return [...new Set(outcomes.map(({ method }) => method))];
}

function plusMinus(values: readonly (number | null)[], factor: number, digits: number): string {
  const known = values.filter((value) => value !== null).map((value) => value * factor);
  if (known.length === 0) return "–";
  const { mean, sd, n } = spread(known);
  const note = known.length < values.length ? ` (${known.length} of ${values.length})` : "";
  return n > 1 ? `${mean.toFixed(digits)} ± ${sd.toFixed(digits)}${note}` : `${mean.toFixed(digits)}${note}`;
}

function meanOf(values: readonly (number | null)[]): number {
  return spread(values.map((value) => value ?? 0)).mean;
}

function signed(value: number, digits: number): string {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;
}

function markdown(columns: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => visibleLine(cell).replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(columns), line(columns.map((_, column) => (column === 0 ? "---" : "---:"))), ...rows.map(line)].join("\n");
}
