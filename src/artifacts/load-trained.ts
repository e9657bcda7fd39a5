import path from "node:path";
import { z } from "zod";
import { decodeGlobal } from "../adapter/global-file.ts";
import { buildAggregation } from "../config/build.ts";
import { camelKeys } from "../base/case.ts";
import { loadOwnPolicy } from "../config/load-own-policies.ts";
import { orOwn } from "../config/own-policy-spec.ts";
import { aggregationSpec } from "../config/policy-specs.ts";
import { common } from "../config/sections.ts";
import { isMap } from "../config/tree.ts";
import { argumentError, RunFailedError } from "../errors.ts";
import type { Aggregation } from "../strategy/strategy.ts";
import { type Commit, type Journal, readJournal } from "../records/journal.ts";
import { judgeRecorded } from "../records/best-round.ts";
import { isOfCommit, type MetricsLine, readMetrics } from "../records/metrics.ts";
import { baseFiles } from "../records/model-source.ts";
import { unnamedPolicies } from "../records/named-code.ts";
import { present } from "../strategy/validate-policy-output.ts";
import { GLOBAL, readRoundFile, roundFile } from "../records/round-files.ts";
import { readRecord, requireReady, runRecord } from "../records/run-record.ts";
import type { Trained } from "./save-trained.ts";
import { readWholeJournal } from "../records/whole-journal.ts";

export interface TrainedOptions {
  /** Its number, or `best` for the best so far by `evaluate.best`. By default the last committed round. */
  readonly round?: number | "best" | undefined;
  /** Required for a run whose aggregation comes from a script and has `present`: its record cannot hold that. */
  readonly aggregation?: Aggregation | undefined;
}

/** Reads the result of a round from a run's directory. The run may be in progress, interrupted or finished. */
export async function readTrained(directory: string, options: TrainedOptions = {}): Promise<Trained> {
  const { round, aggregation } = options;
  const record = await readRecord(directory);
  const { config, labels, peft, model, presents } = requireReady(directory, record, trainedRecord);
  const lines = await readLines(directory);
  const journal = await (round === undefined ? readWholeJournal(directory, lines) : readJournal(path.join(directory, "journal.jsonl")));
  const commit = choose(directory, journal, round === "best" ? findBest(directory, record["config"], { journal, lines }) : round);
  const { sha256 } = commit;
  requireKept(directory, journal, commit.round);
  const { bytes, damage } = await readRoundFile(directory, { round: commit.round, name: GLOBAL, sha256 });
  if (!bytes) {
    // A run under way may have removed it meanwhile.
    if ((await readJournal(path.join(directory, "journal.jsonl"))).dropped.has(commit.round)) return readTrained(directory, options);
    const previous = keptRounds(journal).findLast((other) => other < commit.round);
    const other = previous === undefined ? "" : `, or use prelort export or evaluate on the previous round with --round ${previous}`;
    throw new RunFailedError(`${directory}: ${damage}; restore the file from a copy${other}`);
  }
  const { layout, adapter: global } = decodeGlobal(bytes, path.join(directory, roundFile(commit.round, GLOBAL)));
  const made = aggregation ?? (await recordedAggregation(directory, config.strategy.aggregation, presents));
  return {
    // The folder's name, since the record may have been copied from another run.
    run: path.basename(path.resolve(directory)),
    round: commit.round,
    sha256,
    config,
    peft,
    base: baseFiles(model),
    labels,
    layout,
    global,
    presented: present(made, global, layout),
  };
}

const trainedRecord = runRecord.pick({ labels: true, model: true, peft: true, presents: true }).extend({
  config: z.object({
    model: z.unknown().transform(camelKeys).pipe(common.model),
    lora: common.lora,
    workers: z.object({ python: z.string().optional() }),
    strategy: z.object({ aggregation: z.unknown() }),
  }),
});

async function readLines(directory: string): Promise<readonly MetricsLine[]> {
  return (await readMetrics(path.join(directory, "metrics.jsonl"))).lines;
}

function choose(directory: string, { commits }: Journal, round: number | undefined): Commit {
  const last = commits.at(-1);
  if (!last) refuse(`${directory} has no committed round yet`);
  const found = round === undefined ? last : commits[round];
  if (!found) throw argumentError("round", `must be a committed round, 0 to ${last.round}, got ${round}`);
  return found;
}

/** The best round so far, from the metrics of committed rounds. */
function findBest(
  directory: string,
  config: unknown,
  { journal, lines }: { readonly journal: Journal; readonly lines: readonly MetricsLine[] },
): number {
  const measured = journal.commits.flatMap((commit) =>
    lines.flatMap(({ metrics }) => (metrics && isOfCommit(metrics, commit) ? [metrics] : [])).slice(0, 1),
  );
  const { best } = judgeRecorded(config, measured);
  if (best) return best.round;
  throw argumentError(
    "round",
    `must be a number: ${directory} has no best round, since its config has no evaluate.best or no trained round has been evaluated`,
  );
}

function requireKept(directory: string, journal: Journal, round: number): void {
  if (!journal.dropped.has(round)) return;
  throw argumentError(
    "round",
    `must be a round whose files ${directory} kept (keep_rounds): ${keptRounds(journal).join(", ")}; got ${round}`,
  );
}

function keptRounds({ commits, dropped }: Journal): readonly number[] {
  return commits.map(({ round }) => round).filter((round) => !dropped.has(round));
}

/** Some aggregations keep the global adapter in their own form, and convert it in `present`. */
async function recordedAggregation(
  directory: string,
  described: unknown,
  presents: boolean | undefined,
): Promise<Pick<Aggregation, "present">> {
  if (presents === false) return {};
  const { data: spec } = orOwn(aggregationSpec).safeParse(withoutWrappers(camelKeys(described)));
  if (spec && !("module" in spec)) return buildAggregation(spec);
  if (!spec)
    refuse(`${directory} was trained with a custom aggregation, which its record cannot hold; pass it to exportRun(run, { aggregation })`);
  if (unnamedPolicies({ aggregation: spec }).length > 0)
    refuse(
      `${directory} was trained with ${spec.module}, whose present() makes its adapters; code that only run.json names is not run: if you trust it, pass it to exportRun(run, { aggregation })`,
    );
  return buildAggregation(await loadOwnPolicy("aggregation", spec));
}

/** Earlier versions recorded the wrappers of an aggregation in it. */
function withoutWrappers(described: unknown): unknown {
  if (!isMap(described) || "module" in described) return described;
  const { serverOptimizer: _, updateBound: __, ...inner } = described;
  return inner;
}

function refuse(message: string): never {
  throw argumentError("run-dir", message);
}
