import { rm } from "node:fs/promises";
import path from "node:path";
import type { Adapter } from "../adapter/adapter.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import { isLanguage } from "../adapter/peft.ts";
import { validateRun } from "../config/build.ts";
import type { RunConfig } from "../config/schema.ts";
import type { RankedClient } from "../strategy/strategy.ts";
import { encodedBytes } from "../tensor/encoded.ts";
import { countWorkers, resolveDevices } from "../workers/devices.ts";
import { cacheFolder } from "../installation.ts";
import type { FederateOptions } from "../server/federate.ts";
import { candidateLosses } from "../server/evaluate.ts";
import { measure, type Measurement, predict, type Prediction, proposeSlots, type Slots } from "./measure.ts";
import { recallAnswers, rememberAnswers } from "./known-answers.ts";
import { originOf } from "../artifacts/init-source.ts";
import type { Origin } from "../records/run-record.ts";
import { selectClients } from "../server/select-clients.ts";
import { type Findings, findingsOf, openSession, type Session } from "../server/session.ts";
import { remarksOnTraining } from "../server/training-remarks.ts";
import { WIRE_DTYPES } from "../config/wire-specs.ts";

export interface PlannedClient extends RankedClient {
  /** Server rounds it would train in. */
  readonly rounds: readonly number[];
  /** Tensor bytes of one fit. */
  readonly bytesPerFit: { readonly down: number; readonly up: number };
  /** Of what it trains on. */
  readonly tokens: number;
  readonly truncated: number;
  /** Of what it trains on: the values of the column that the partition goes by, or of the label, the commonest first. */
  readonly mix: readonly { readonly value: string; readonly n: number }[];
}

/** Who would train, at which rank, and what would travel. */
export interface Plan {
  readonly clients: readonly PlannedClient[];
  readonly tiers: readonly number[];
  readonly rounds: number;
  readonly labels: readonly string[];
  readonly evalExamples: number;
  readonly truncated: number;
  /** What one should know of the data, though it can be used. */
  readonly remarks: readonly string[];
  /** Modules that adapters act on, those whose names differ in numbers alone as one. */
  readonly adapted: readonly { readonly name: string; readonly in: number; readonly out: number; readonly count: number }[];
  /** Weights that no adapter acts on and that are not trained in full. */
  readonly leftOut: readonly { readonly name: string; readonly kind: string; readonly count: number; readonly parameters: number }[];
  readonly adaptedModules: number;
  readonly baseParameters: number;
  /** Floats of the whole adapter at rank R, and of the modules trained in full. */
  readonly adapterParameters: number;
  readonly denseParameters: number;
  /** Tensor bytes of all fits of the run. */
  readonly bytesDown: number;
  readonly bytesUp: number;
  /** With `measure`: what fits and evaluations took on one worker, and what the run would take on the config's. */
  readonly time: (Measurement & Prediction) | null;
  /** With `measure`: `workers.slotsPerDevice` as this machine has room for; null where that cannot be known. */
  readonly slots: Slots | null;
}

export interface PlanOptions extends Omit<FederateOptions, "overwrite"> {
  /** Time a few real steps at every rank, and see what memory they take. */
  readonly measure?: boolean | undefined;
}

/**
 * Prepares the data and loads the model on one worker, writes nothing but the cache, and trains nothing but what is measured. What a
 * worker told of the same model and data before is used again.
 */
export async function plan(options: PlanOptions): Promise<Plan> {
  const { signal, launcher, measure: isMeasured, ...input } = options;
  const validated = validateRun(input);
  const config = { ...validated, workers: { ...validated.workers, count: 1 } };
  const origin = await originOf(config);
  let opening: Promise<Session> | undefined;
  const open = () => (opening ??= openPlanning(config, origin, options));
  // What a user's own launcher starts is not known; an initial adapter is checked against the model.
  const known = launcher || isMeasured || origin ? undefined : await recallAnswers(config, signal);
  try {
    const findings = known ? findingsOf(config, known) : await open();
    if (origin) await (await open()).initial();
    const selections = await selectAll(config, findings, open);
    const measured = isMeasured ? await measure(config, await open()) : null;
    const time = measured && { ...measured, ...(await timesOf(validated, measured, findings, selections)) };
    const slots = measured && proposeSlots(measured, (await open()).environment.device, config.workers.threads);
    if (!known && !launcher) await rememberAnswers(config, await open());
    return { ...describePlan(config, findings, selections), time, slots };
  } finally {
    const session = await opening?.catch(() => undefined);
    await session?.close();
  }
}

async function openPlanning(config: RunConfig, origin: Origin | undefined, { launcher, signal }: PlanOptions): Promise<Session> {
  // Not in a temporary folder: errors name these logs.
  const logFolder = path.join(cacheFolder(), "logs", "plan");
  await rm(logFolder, { recursive: true, force: true });
  return openSession({ config, origin, launcher, signal: signal ?? new AbortController().signal, logFolder, emit: () => undefined });
}

/** Who would be selected in each round, if all have the losses that they begin with: for those a worker is needed. */
async function selectAll(config: RunConfig, { clients, tiers }: Findings, open: () => Promise<Session>): Promise<Selections> {
  const rounds = Array.from({ length: config.rounds }, (_, index) => index + 1);
  let initial: Promise<Adapter> | undefined;
  const lossesIn = (round: number) => async (candidates: readonly RankedClient[]) => {
    const session = await open();
    const { pool, layout, peft, prepared } = session;
    const evaluation = { config, pool, layout, isLanguage: isLanguage(peft), evalExamples: prepared.n_eval, ownExamples: new Map() };
    return candidateLosses(evaluation, round, await (initial ??= session.initial()), candidates);
  };
  return Promise.all(rounds.map((round) => selectClients(config, { round, clients, tiers, history: new Map(), losses: lossesIn(round) })));
}

function describePlan(config: RunConfig, findings: Findings, selections: Selections): Omit<Plan, "time" | "slots"> {
  const { layout, prepared } = findings;
  const roundsOf = new Map(findings.clients.map(({ id }) => [id, [] as number[]]));
  for (const [index, selected] of selections.entries()) for (const { id } of selected) roundsOf.get(id)?.push(index + 1);
  const bytesOf = (dtype: keyof typeof WIRE_DTYPES, r: number) =>
    encodedBytes(WIRE_DTYPES[dtype], r * layout.width) + encodedBytes(WIRE_DTYPES[dtype], layout.denseSize);
  const clients = findings.clients.map((client, index) => ({
    ...client,
    tokens: prepared.clients[index]?.n_tokens ?? 0,
    truncated: prepared.clients[index]?.n_truncated ?? 0,
    mix: prepared.clients[index]?.mix ?? [],
    rounds: roundsOf.get(client.id) ?? [],
    bytesPerFit: { down: bytesOf(config.wire.downlink, client.r), up: bytesOf(config.wire.update, client.r) },
  }));
  const total = (way: "down" | "up") => clients.reduce((sum, client) => sum + client.rounds.length * client.bytesPerFit[way], 0);
  const merged = config.strategy.aggregation.policy?.name === "flora" ? mergedRows(selections) : 0;
  return {
    clients,
    tiers: findings.tiers,
    rounds: config.rounds,
    labels: prepared.labels,
    evalExamples: prepared.n_eval,
    truncated: prepared.n_truncated,
    remarks: remarksOnTraining(config, prepared),
    adapted: groupModules(layout),
    leftOut: findings.leftOut,
    adaptedModules: layout.modules.length,
    baseParameters: findings.parameters,
    adapterParameters: layout.r * layout.width,
    denseParameters: layout.denseSize,
    bytesDown: total("down") + merged * encodedBytes("F32", layout.width),
    bytesUp: total("up"),
  };
}

function groupModules({ modules }: AdapterLayout): Plan["adapted"] {
  const groups = new Map<string, Plan["adapted"][number]>();
  for (const module of modules) {
    const name = module.name.replaceAll(/(?<=^|\.)\d+(?=\.|$)/g, "*");
    const key = `${name} ${module.in} ${module.out}`;
    groups.set(key, { name, in: module.in, out: module.out, count: (groups.get(key)?.count ?? 0) + 1 });
  }
  return [...groups.values()];
}

type Selections = readonly (readonly RankedClient[])[];

async function timesOf(
  config: RunConfig,
  measured: Measurement,
  { prepared, tiers }: Findings,
  selections: Selections,
): Promise<Prediction> {
  const workers = countWorkers(await resolveDevices(config.workers.devices), config.workers);
  const ownExamples = prepared.clients.map((client) => client.n_eval);
  return predict(config, measured, { selections, evalExamples: prepared.n_eval, evaluatedTiers: tiers.length, ownExamples, workers });
}

/** Components that were merged into the base since a client last had them, over all fits: Σ r_k of every round in between. */
function mergedRows(selections: Selections): number {
  const last = new Map<string, number>();
  let [merged, sent] = [0, 0];
  for (const selected of selections) {
    for (const { id } of selected) {
      sent += merged - (last.get(id) ?? 0);
      last.set(id, merged);
    }
    merged += selected.reduce((sum, { r }) => sum + r, 0);
  }
  return sent;
}
