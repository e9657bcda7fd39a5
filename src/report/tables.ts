import type { RoundMetrics, TierMetrics } from "../records/metrics.ts";
import { formatBytes, formatCount, formatNumber, formatPercent, formatSeconds, NOTHING } from "./format.ts";
import { clientsTable } from "./clients-table.ts";
import { confusionTables } from "./confusion.ts";
import { evaluatedRounds, qualityAt, qualityOf, untrainedRound } from "./quality.ts";
import { type Direction, shownMetric } from "./metric-names.ts";
import { samplesTables } from "./samples.ts";
import { areaUnderRanks, worstTier } from "../records/rank-quality.ts";
import type { RecordedRun } from "../records/read-run.ts";

/** A table as data. The first column names the rows; the others are numbers, except those listed in `prose`. */
export interface Table {
  readonly title: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
  readonly prose?: readonly number[];
}

export function reportTables(run: RecordedRun): readonly Table[] {
  const { tiers } = run.record.layout;
  return [
    qualityTable(tiers, run.rounds),
    ...confusionTables(run),
    ...samplesTables(run.rounds),
    roundsTable(tiers, run.rounds),
    segmentsTable(run),
    clientsTable(run),
    trafficTable(run),
    timeTable(run),
  ];
}

/** Quality and loss at each tier, before training and after the last evaluated round; the worst tier and the area. */
export function qualityTable(tiers: readonly number[], rounds: readonly RoundMetrics[]): Table {
  const quality = qualityOf(rounds);
  const [before, after] = [untrainedRound(rounds), evaluatedRounds(rounds).at(-1)];
  const loss = (tier: TierMetrics) => tier.loss;
  const isLoss = quality.name === "loss";
  const own = (after?.byTier[0]?.own ?? [])
    .filter(({ name }) => !(quality.name === "F1" && name === "f1"))
    .map(({ name }) => ({
      ...shownMetric(name),
      of: (tier: TierMetrics) => tier.own.find((metric) => metric.name === name)?.value ?? null,
    }));
  const extras = [
    { name: "macro-F1", of: (tier: TierMetrics) => tier.macroF1, format: formatPercent, better: "higher" as const },
    { name: "ECE", of: (tier: TierMetrics) => tier.ece, format: formatPercent, better: "lower" as const },
    { name: "bits per byte", of: (tier: TierMetrics) => tier.bitsPerByte, format: formatNumber, better: "lower" as const },
    { name: "ROUGE-L", of: (tier: TierMetrics) => tier.rougeL, format: formatPercent, better: "higher" as const },
    ...own,
  ].filter(({ of }) => after?.byTier.some((tier) => of(tier) !== null));
  const row = (
    name: string,
    measure: (round: RoundMetrics | undefined, of: (tier: TierMetrics) => number | null, better: Direction) => number | null,
  ) => {
    const [from, to] = [measure(before, quality.of, quality.better), measure(after, quality.of, quality.better)];
    const losses = isLoss ? [] : [formatNumber(measure(before, loss, "lower")), formatNumber(measure(after, loss, "lower"))];
    const others = extras.flatMap(({ of, format, better }) => [before, after].map((round) => format(measure(round, of, better))));
    return [name, quality.format(from), quality.format(to), quality.formatChange(from, to), ...losses, ...others];
  };
  const tierRows = tiers.map((r) =>
    row(String(r), (round, of) => {
      const tier = round?.byTier.find((metrics) => metrics.r === r);
      return tier ? of(tier) : null;
    }),
  );
  return {
    title: "Quality at each tier",
    columns: [
      "rank",
      `${quality.name} before`,
      after ? `after round ${after.round}` : "after",
      "change",
      ...(isLoss ? [] : ["loss before", "loss after"]),
      ...extras.flatMap(({ name }) => [`${name} before`, `${name} after`]),
    ],
    rows: [
      ...tierRows,
      row("worst tier", (round, of, better) => (better ? worstTier(round?.byTier ?? [], of, better) : null)),
      row("area, log₂ rank", (round, of) => areaUnderRanks(round?.byTier ?? [], of)),
      ...(after?.merged ? [row("merged model", (round, of) => (round?.merged ? of(round.merged) : null))] : []),
    ],
  };
}

export function roundsTable(tiers: readonly number[], rounds: readonly RoundMetrics[]): Table {
  const quality = qualityOf(rounds);
  return {
    title: `Round by round: ${quality.name} at each rank`,
    columns: ["round", ...tiers.map((r) => `r=${r}`), "training loss", "reported", "failed"],
    rows: rounds.map((round) => [
      String(round.round),
      ...tiers.map((r) => quality.format(qualityAt(quality, round, r))),
      formatNumber(round.fitLoss),
      ...(round.round === 0 ? [NOTHING, NOTHING] : [String(round.reported.length), String(round.failed.length)]),
    ]),
  };
}

/** Who trained which rows of the adapter: a segment that no client trains keeps its values. */
export function segmentsTable({ record, rounds }: RecordedRun): Table {
  const trained = rounds.filter(({ round }) => round > 0);
  const last = evaluatedRounds(rounds).at(-1);
  const { tiers } = record.layout;
  return {
    title: "Segments and who trained them",
    columns: ["components", "tier", "rounds trained", "clients per round", "examples per round", "energy ‖s·B·A‖²"],
    rows: tiers.map((r, index) => {
      const first = (tiers[index - 1] ?? 0) + 1;
      const coverage = trained.map((round) => round.coverage.find((segment) => segment.r === r));
      const mean = (key: "clients" | "examples") =>
        coverage.reduce((sum, segment) => sum + (segment?.[key] ?? 0), 0) / Math.max(1, trained.length);
      return [
        first === r ? String(r) : `${first}–${r}`,
        String(r),
        `${coverage.filter((segment) => (segment?.clients ?? 0) > 0).length} of ${trained.length}`,
        mean("clients").toFixed(1),
        formatCount(Math.round(mean("examples"))),
        formatNumber(last?.energy.find((segment) => segment.r === r)?.energy ?? null),
      ];
    }),
  };
}

export function trafficTable({ rounds }: RecordedRun): Table {
  const trained = rounds.filter(({ round }) => round > 0);
  const fits = trained.reduce((sum, { reported }) => sum + reported.length, 0);
  const row = (name: string, bytesOf: (round: RoundMetrics) => number) => {
    const total = trained.reduce((sum, round) => sum + bytesOf(round), 0);
    return [name, formatBytes(total), formatBytes(total / Math.max(1, trained.length)), formatBytes(total / Math.max(1, fits))];
  };
  return {
    title: "Traffic",
    columns: ["tensors of fits", "whole run", "per round", "per fit"],
    rows: [row("down to clients", ({ bytesDown }) => bytesDown), row("up from clients", ({ bytesUp }) => bytesUp)],
  };
}

export function timeTable({ timings }: RecordedRun): Table {
  const phases = [...new Set(timings.map(({ phase }) => phase))];
  const total = timings.reduce((sum, { seconds }) => sum + seconds, 0);
  return {
    title: "Where the time went",
    columns: ["phase", "time", "share"],
    rows: phases.map((phase) => {
      const seconds = timings.reduce((sum, timing) => sum + (timing.phase === phase ? timing.seconds : 0), 0);
      return [phase, formatSeconds(seconds), formatPercent(total > 0 ? seconds / total : null)];
    }),
  };
}
