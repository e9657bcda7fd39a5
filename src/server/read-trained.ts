import { readFile } from "node:fs/promises";
import path from "node:path";
import { z } from "zod";
import { decodeGlobal } from "../adapter/global-file.ts";
import { buildAggregation } from "../config/build.ts";
import { camelKeys } from "../config/case.ts";
import { aggregationSpecOf } from "../config/policy-specs.ts";
import { common } from "../config/sections.ts";
import { ConfigError, RunFailedError } from "../errors.ts";
import type { Aggregation } from "../strategy/strategy.ts";
import { parseJson } from "../tensor/json.ts";
import { readLog } from "./durable.ts";
import { type Commit, commitsOf } from "./journal.ts";
import { baseFiles, recordedModel } from "./model-source.ts";
import { present } from "./present.ts";
import { GLOBAL, hashOf } from "./round-files.ts";
import type { Trained } from "./save.ts";

export interface TrainedOptions {
  /** The last that was committed, by default. */
  readonly round?: number | undefined;
  /** Of a run with one of one's own, which its record cannot make again. */
  readonly aggregation?: Aggregation | undefined;
}

/** What a round of a run made, from its directory. Only reads, so the run may be under way, interrupted or finished. */
export async function readTrained(directory: string, { round, aggregation }: TrainedOptions = {}): Promise<Trained> {
  const record = await readRecord(directory);
  const { entries } = await readLog(path.join(directory, "journal.jsonl"));
  const commit = choose(directory, commitsOf(entries), round);
  const file = path.join(directory, "rounds", `${commit.round}`, GLOBAL);
  const bytes = await readFile(file).catch(() => new Uint8Array(0));
  if (hashOf([bytes]) !== commit.sha256) {
    const other = commit.round > 0 ? `; take the round before with --round ${commit.round - 1}` : "";
    const remedy = `prelort resume makes it anew where the run had not ended${other}`;
    throw new RunFailedError(`${file} has not the bytes that were committed (SHA-256 ${commit.sha256}): it was damaged since; ${remedy}`);
  }
  const { layout, adapter: global } = decodeGlobal(bytes, file);
  const { name, config, labels, peft, model } = record;
  const made = aggregation ?? recordedAggregation(directory, config.strategy.aggregation);
  return {
    run: name,
    round: commit.round,
    sha256: commit.sha256,
    config,
    peft,
    base: baseFiles(model),
    labels,
    layout,
    global,
    presented: present(made, global, layout),
  };
}

const camelCase = <S extends z.ZodType>(schema: S) => z.unknown().transform(camelKeys).pipe(schema);
const recordSchema = z.object({
  name: z.string(),
  config: z.object({
    model: camelCase(common.model),
    lora: common.lora,
    workers: z.object({ python: z.string().optional() }),
    strategy: z.object({ aggregation: z.unknown() }),
  }),
  labels: z.array(z.string()),
  model: recordedModel,
  peft: camelCase(z.object({ taskType: z.string().nullable(), modulesToSave: z.array(z.string()) })),
});

async function readRecord(directory: string): Promise<z.output<typeof recordSchema>> {
  const file = path.join(directory, "run.json");
  const record = parseJson(await readFile(file, "utf8").catch(() => ""));
  if (record === undefined) refuse(`${directory} holds no run: there is no run.json in it`);
  const { data, error } = recordSchema.safeParse(record);
  if (data) return data;
  // It is completed once the model is loaded.
  refuse(`${file} is no record of a run that had begun to train with this version of prelort: ${z.prettifyError(error)}`);
}

function choose(directory: string, commits: readonly Commit[], round: number | undefined): Commit {
  const last = commits.at(-1);
  if (!last) refuse(`${directory} has no committed round yet`);
  const found = round === undefined ? last : commits[round];
  if (!found) throw new ConfigError([{ path: "round", message: `must be one that was committed, 0 to ${last.round}, got ${round}` }]);
  return found;
}

/** Some keep in the global adapter what has to be brought into the form of an adapter first. */
function recordedAggregation(directory: string, described: unknown): Pick<Aggregation, "present"> {
  const { serverOptimizer: _, updateBound: __, ...inner } = camelKeys(described) as Record<string, unknown>;
  const spec = aggregationSpecOf(inner);
  if (spec) return buildAggregation(spec);
  refuse(
    `${directory} was trained with an aggregation of one's own, which its record cannot make again: exportRun(run, { aggregation }) takes it`,
  );
}

function refuse(message: string): never {
  throw new ConfigError([{ path: "run-dir", message }]);
}
