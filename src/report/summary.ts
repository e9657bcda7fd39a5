import { formatBytes, formatCount, formatSeconds, plural } from "./format.ts";
import { isClearChange } from "./change.ts";
import { evaluatedRounds, majorityShare, type Quality, qualityAt, qualityOf, tierAt, untrainedRound } from "./quality.ts";
import { describeBest, describeStop } from "./best-words.ts";
import { total } from "./tails.ts";
import { visibleIn } from "./visible.ts";
import { judgeRecorded } from "../records/best-round.ts";
import type { RoundMetrics } from "../records/metrics.ts";
import type { RecordedRun } from "../records/read-run.ts";

/** The run in a few sentences: the quality of the whole adapter and of its smallest prefix, the best round, and the rounds that lack metrics. */
export function summarise(run: RecordedRun): string {
  return [describeQuality(run), ...describeChoice(run), ...describeGaps(run)].join(" ");
}

/** Which round is the best, and why the run stopped early, if its config asks. */
function describeChoice({ record, rounds }: RecordedRun): readonly string[] {
  const { best, stopped } = judgeRecorded(record.config, rounds);
  return [
    ...(stopped ? [`It stopped early ${describeStop(stopped, record.config.rounds)}.`] : []),
    ...(best ? [`The best is ${describeBest(visibleIn(best))}.`] : []),
  ];
}

/** Only rounds before the last one with metrics: later ones may still be evaluated. */
function describeGaps({ rounds }: RecordedRun): readonly string[] {
  const known = new Set(rounds.map(({ round }) => round));
  const missing = Array.from({ length: rounds.at(-1)?.round ?? 0 }, (_, round) => round).filter((round) => !known.has(round));
  if (missing.length === 0) return [];
  const shown = missing.slice(0, SHOWN).join(", ");
  const more = missing.length > SHOWN ? ` and ${missing.length - SHOWN} more` : "";
  return [`metrics.jsonl has no metrics for round${missing.length > 1 ? "s" : ""} ${shown}${more}; prelort resume evaluates them again.`];
}

const SHOWN = 5;

function describeQuality(run: RecordedRun): string {
  const { record, clients, rounds } = run;
  const quality = qualityOf(rounds);
  const [before, after] = [untrainedRound(rounds), evaluatedRounds(rounds).at(-1)];
  const [lowest, highest] = [record.layout.tiers.at(0), record.layout.tiers.at(-1)];
  if (!after || lowest === undefined || highest === undefined) return "Nothing has been evaluated yet.";
  const article = quality.isShare ? "an" : "a";
  const at = (round: typeof before, r: number) => quality.format(qualityAt(quality, round, r));
  const intervalAt = (round: typeof before) => {
    const tier = tierAt(round, highest);
    const interval = tier && quality.interval(tier);
    return interval ? ` (95 % interval ${quality.format(interval.low)} to ${quality.format(interval.high)})` : "";
  };
  if (before === after)
    return `Before training, the model’s ${quality.name} is ${at(before, highest)} on ${plural(record.eval_examples, "held-out example")}.`;
  const whole =
    `After ${plural(after.round, "round")} over ${plural(clients.ids.length, "client")}, the rank-${highest} adapter reaches ${article} ` +
    `${quality.name} of ${at(after, highest)}${intervalAt(after)} on ${plural(record.eval_examples, "held-out example")}${before ? `, from ${at(before, highest)} before training` : ""}`;
  const prefix = lowest === highest ? "" : `; its rank-${lowest} prefix alone reaches ${at(after, lowest)}`;
  const baseline = quality.name === "accuracy" ? majorityShare(clients) : undefined;
  const unclear = before ? describeUnclear(quality, record.layout.tiers, before, after) : "";
  return `${whole}${prefix}.${unclear}${baseline === undefined ? "" : ` The most common label makes up ${quality.format(baseline)} of the training examples.`}`;
}

/** The tiers whose change may be chance. */
function describeUnclear(quality: Quality, tiers: readonly number[], before: RoundMetrics, after: RoundMetrics): string {
  const unclear = tiers.filter((r) => {
    const [first, last] = [tierAt(before, r), tierAt(after, r)];
    return first && last && isClearChange(quality, first, last) === false;
  });
  if (unclear.length === 0) return "";
  const where = unclear.length === tiers.length ? "At every rank" : `At rank ${unclear.join(", ")}`;
  return ` ${where} the change since before training is within what the held-out examples allow for by chance.`;
}

/** The key figures of a run, by name. */
export function facts({ record, clients, rounds, timings }: RecordedRun): readonly (readonly [name: string, value: string])[] {
  const { model, data } = record.config;
  const bytes = rounds.reduce((sum, { bytesDown, bytesUp }) => sum + bytesDown + bytesUp, 0);
  const last = rounds.at(-1)?.round ?? 0;
  const { best, stopped } = judgeRecorded(record.config, rounds);
  const all = record.config.rounds;
  return [
    ["method", record.method.name],
    ["model", model.name_or_path],
    ["data", data.path],
    ["clients", `${formatCount(clients.ids.length)} with ranks ${record.layout.tiers.join(", ")}`],
    ["training examples", formatCount(total(clients.n))],
    ["rounds", last === all ? String(last) : stopped ? `stopped early ${describeStop(stopped, all)}` : `${last} of ${all}`],
    ...(best ? [["best", describeBest(visibleIn(best))] as const] : []),
    ["traffic", formatBytes(bytes)],
    ["time", formatSeconds(timings.reduce((sum, { seconds }) => sum + seconds, 0))],
  ];
}
