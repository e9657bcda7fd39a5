import type { Adapter } from "../adapter/adapter.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import { isLanguage } from "../adapter/peft.ts";
import { validateRun } from "../config/build.ts";
import { stepsOf } from "../config/fit-spec.ts";
import type { RunConfig } from "../config/schema.ts";
import type { RankedClient } from "../strategy/strategy.ts";
import { encodedBytes } from "../tensor/encoded.ts";
import { countWorkers, resolveDevices } from "../workers/devices.ts";
import type { NewEvent } from "../server/events.ts";
import type { FederateOptions } from "../server/federate.ts";
import { makeLogFolder } from "../server/log-folder.ts";
import { candidateLosses } from "../server/evaluate.ts";
import { type Disk, diskOf } from "./disk.ts";
import { measure, type Measurement, predict, type Prediction, proposeSlots, type Slots } from "./measure.ts";
import { type Machines, machinesOf } from "./machines.ts";
import { mergedRows } from "./merged-rows.ts";
import { type PlannedTraining, trainingOf } from "./training.ts";
import { recallAnswers, rememberAnswers } from "./known-answers.ts";
import { originOf } from "../artifacts/init-source.ts";
import type { Origin } from "../records/run-record.ts";
import { mixOf } from "../protocol/client-columns.ts";
import { clientsOf, readsColumns } from "../server/client-list.ts";
import { selectClients } from "../server/select-clients.ts";
import { stateLengthIn } from "../server/task-requests.ts";
import { type Findings, findingsOf, openSession, type Session } from "../server/session.ts";
import { remarksOnTraining } from "../server/training-remarks.ts";
import { WIRE_DTYPES } from "../config/wire-specs.ts";

export interface PlannedClient extends RankedClient {
  /** Server rounds it would train in. */
  readonly rounds: readonly number[];
  /** Optimizer steps of one fit. */
  readonly steps: number;
  /** Tensor bytes of one fit; with `fit.client_state: keep`, a client's first one has fewer down. */
  readonly bytesPerFit: { readonly down: number; readonly up: number };
  /** In its training examples. */
  readonly tokens: number;
  readonly truncated: number;
  /** Values, in its training examples, of the partition's column or of the label, the most common first. */
  readonly mix: readonly { readonly value: string; readonly n: number }[];
}

/** Who would train, at which rank, and how much would be sent. */
export interface Plan {
  readonly clients: readonly PlannedClient[];
  readonly tiers: readonly number[];
  readonly rounds: number;
  readonly training: PlannedTraining;
  readonly labels: readonly string[];
  readonly evalExamples: number;
  readonly truncated: number;
  /** Warnings about the data. */
  readonly remarks: readonly string[];
  /** Modules that adapters act on; names that differ only in numbers are grouped. */
  readonly adapted: readonly { readonly name: string; readonly in: number; readonly out: number; readonly count: number }[];
  /** Weights without an adapter that are not trained in full either. */
  readonly leftOut: readonly { readonly name: string; readonly kind: string; readonly count: number; readonly parameters: number }[];
  readonly adaptedModules: number;
  readonly baseParameters: number;
  /** Number of values in the adapter at rank R, and in the modules trained in full. */
  readonly adapterParameters: number;
  readonly denseParameters: number;
  /** Tensor bytes of all fits of the run. */
  readonly bytesDown: number;
  readonly bytesUp: number;
  /** Whether `stopWhen` may end the run before its last round; all figures are those of all rounds. */
  readonly mayStopEarly: boolean;
  readonly disk: Disk;
  /** With `measure`: time of fits and evaluations on one worker, and of the run on the config's workers. */
  readonly time: (Measurement & Prediction) | null;
  /** With `measure`: the `workers.slotsPerDevice` that this machine has room for; null if that is unknown. */
  readonly slots: Slots | null;
  /** Null if all workers would run on this machine, or a launcher of the caller's own decides. */
  readonly machines: Machines | null;
}

export interface PlanOptions extends Omit<FederateOptions, "overwrite"> {
  /** Measure the time and memory of a few real steps at every rank. */
  readonly measure?: boolean | undefined;
  /** Called with what a worker on another machine or a cluster waits for before it starts. */
  readonly onWaiting?: ((what: string) => void) | undefined;
}

/**
 * Prepares the data and loads the model on one worker. Writes only to the cache, and trains only to measure. Reuses cached answers of
 * a worker about the same model and data.
 */
export async function plan(options: PlanOptions): Promise<Plan> {
  const { signal, launcher, measure: isMeasured, onWaiting: _, ...input } = options;
  const validated = validateRun(input);
  const config = { ...validated, workers: { ...validated.workers, count: 1 } };
  const origin = await originOf(config);
  let opening: Promise<Session> | undefined;
  const open = () => (opening ??= openPlanning(config, origin, options));
  // A user's own launcher may start any kind of worker, and a cluster has its own model and data. An initial adapter has to be checked against the model.
  const isElsewhere = launcher !== undefined || config.workers.cluster !== undefined;
  const known = isElsewhere || isMeasured || origin ? undefined : await recallAnswers(config, signal);
  try {
    const findings = known ? findingsOf(config, known) : await open();
    if (origin) await (await open()).initial();
    const selections = await selectAll(config, findings, open);
    const measured = isMeasured ? await measure(config, await open()) : null;
    const time = measured && { ...measured, ...(await timesOf(validated, measured, findings, selections)) };
    const slots = measured && proposeSlots(measured, (await open()).environment.device, config.workers.threads);
    if (!known && !isElsewhere) await rememberAnswers(config, await open());
    const planned = describePlan(config, findings, selections);
    const bytesDown = new Map(planned.clients.map(({ r, bytesPerFit }) => [r, bytesPerFit.down]));
    const machines = launcher ? undefined : await machinesOf(config, selections, (r) => bytesDown.get(r) ?? 0);
    return { ...planned, training: trainingOf(config), time, slots, machines: machines ?? null };
  } finally {
    const session = await opening?.catch(() => undefined);
    await session?.close();
  }
}

async function openPlanning(config: RunConfig, origin: Origin | undefined, { launcher, signal, onWaiting }: PlanOptions): Promise<Session> {
  const logFolder = await makeLogFolder("plan");
  const isElsewhere = config.workers.cluster !== undefined || config.workers.command !== undefined;
  const emit = (event: NewEvent) => {
    if (isElsewhere && event.type === "worker-status" && event.state === "starting")
      onWaiting?.(`worker ${event.workerId}: ${event.activity}`);
  };
  return openSession({ config, origin, launcher, signal: signal ?? new AbortController().signal, logFolder, emit });
}

/** The clients of each round, if losses did not change. Losses need a worker. */
async function selectAll(
  config: RunConfig,
  { clients, columns: { indexOf }, tiers }: Findings,
  open: () => Promise<Session>,
): Promise<Selections> {
  const rounds = Array.from({ length: config.rounds }, (_, index) => index + 1);
  let initial: Promise<Adapter> | undefined;
  const lossesIn = (round: number) => async (candidates: readonly RankedClient[]) => {
    const session = await open();
    const { pool, layout, peft, prepared } = session;
    const evaluation = {
      config,
      pool,
      layout,
      labels: prepared.labels.length,
      isLanguage: isLanguage(peft),
      evalExamples: prepared.n_eval,
      ownExamples: new Uint32Array(0),
    };
    return candidateLosses(evaluation, round, { global: await (initial ??= session.initial()), state: {} }, candidates);
  };
  return Promise.all(
    rounds.map((round) => selectClients(config, { round, clients, indexOf, tiers, history: new Map(), losses: lossesIn(round) })),
  );
}

function describePlan(
  config: RunConfig,
  findings: Findings,
  selections: Selections,
): Omit<Plan, "training" | "time" | "slots" | "machines"> {
  const { layout, prepared, columns } = findings;
  const roundsOf = roundsByClient(selections);
  const bytesOf = (dtype: keyof typeof WIRE_DTYPES, r: number) =>
    encodedBytes(WIRE_DTYPES[dtype], r * layout.width) + encodedBytes(WIRE_DTYPES[dtype], layout.denseSize);
  const tail = (r: number) => (config.fit.actingTail > 0 ? encodedBytes("F32", (layout.r - r) * layout.width) : 0);
  const state = (r: number) => encodedBytes("F32", stateLengthIn(config, layout, r));
  const bytesPerFit = new Map(
    findings.tiers.map((r) => {
      const down = bytesOf(config.wire.downlink, r) + tail(r) + state(r);
      return [r, { down, up: bytesOf(config.wire.update, r) + state(r) }];
    }),
  );
  const describe = clientsOf(columns, prepared.labels.length, config.data.profiles);
  const mix = readsColumns((index) => mixOf(columns, index));
  const clients = findings.clients.map(({ index, r, size }): PlannedClient => {
    const planned = {
      r,
      tokens: columns.nTokens[index] as number,
      truncated: columns.nTruncated[index] as number,
      steps: stepsOf(config.fit, { size }),
      rounds: roundsOf.get(index) ?? NO_ROUNDS,
      bytesPerFit: bytesPerFit.get(r) as PlannedClient["bytesPerFit"],
    };
    return describe(index, planned, { mix }) as PlannedClient;
  });
  const total = (way: "down" | "up") => clients.reduce((sum, client) => sum + client.rounds.length * client.bytesPerFit[way], 0);
  const notSent = clients.reduce((sum, { r, rounds }) => sum + (rounds.length > 0 ? state(r) : 0), 0);
  const merged = mergedRows(config.strategy, selections);
  return {
    clients,
    tiers: findings.tiers,
    rounds: config.rounds,
    labels: prepared.labels,
    evalExamples: prepared.n_eval,
    truncated: prepared.n_truncated,
    remarks: remarksOnTraining(config, prepared, columns),
    adapted: groupModules(layout),
    leftOut: findings.leftOut,
    adaptedModules: layout.modules.length,
    baseParameters: findings.parameters,
    adapterParameters: layout.r * layout.width,
    denseParameters: layout.denseSize,
    bytesDown: total("down") - notSent + merged.sent * encodedBytes("F32", layout.width),
    bytesUp: total("up"),
    mayStopEarly: config.stopWhen !== undefined,
    disk: diskOf(config, {
      layout,
      tiers: findings.tiers,
      selections,
      merged: merged.after,
      updateBytes: (r) => bytesOf(config.wire.update, r),
    }),
  };
}

/** The rounds in which each client trains, by its index. */
function roundsByClient(selections: Selections): ReadonlyMap<number, readonly number[]> {
  const roundsOf = new Map<number, number[]>();
  for (const [before, selected] of selections.entries()) {
    for (const { index } of selected) {
      const rounds = roundsOf.get(index);
      if (rounds) rounds.push(before + 1);
      else roundsOf.set(index, [before + 1]);
    }
  }
  return roundsOf;
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

const NO_ROUNDS: readonly number[] = [];

type Selections = readonly (readonly RankedClient[])[];

async function timesOf(
  config: RunConfig,
  measured: Measurement,
  { prepared, columns, tiers }: Findings,
  selections: Selections,
): Promise<Prediction> {
  const workers = countWorkers(await resolveDevices(config.workers), config.workers);
  const ownExamples = Array.from(columns.nEval);
  return predict(config, measured, { selections, evalExamples: prepared.n_eval, evaluatedTiers: tiers.length, ownExamples, workers });
}
