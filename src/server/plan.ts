import { rm } from "node:fs/promises";
import path from "node:path";
import type { AdapterLayout } from "../adapter/layout.ts";
import { isLanguage } from "../adapter/peft.ts";
import { validateRun } from "../config/build.ts";
import type { RunConfig } from "../config/schema.ts";
import type { RankedClient, SelectionContext } from "../strategy/strategy.ts";
import { encodedBytes } from "../tensor/encoded.ts";
import { countWorkers, resolveDevices } from "../workers/devices.ts";
import { cacheFolder } from "../workers/python.ts";
import type { FederateOptions } from "./federate.ts";
import { candidateLosses } from "./evaluate.ts";
import { measure, type Measurement, predict, type Prediction, proposeSlots, type Slots } from "./measure.ts";
import { originOf } from "./origin.ts";
import { selectClients } from "./round.ts";
import { openSession, type Session } from "./session.ts";
import { WIRE_DTYPES } from "./wire-specs.ts";

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

/** Prepares the data and loads the model on one worker, writes nothing, and trains nothing but what is measured. */
export async function plan(options: PlanOptions): Promise<Plan> {
  const { signal, launcher, measure: isMeasured, ...input } = options;
  const validated = validateRun(input);
  const config = { ...validated, workers: { ...validated.workers, count: 1 } };
  const origin = await originOf(config);
  // Not in a temporary folder: errors name these logs.
  const logFolder = path.join(cacheFolder(), "logs", "plan");
  await rm(logFolder, { recursive: true, force: true });
  const session = await openSession({
    config,
    origin,
    launcher,
    signal: signal ?? new AbortController().signal,
    logFolder,
    emit: () => undefined,
  });
  try {
    const { layout, prepared } = session;
    const rounds = Array.from({ length: config.rounds }, (_, place) => place + 1);
    const evaluation = {
      config,
      pool: session.pool,
      layout,
      isLanguage: isLanguage(session.peft),
      evalExamples: prepared.n_eval,
      ownExamples: new Map(),
    };
    const initial = await session.initial();
    const selections = await Promise.all(
      rounds.map((round) => {
        const losses: SelectionContext["losses"] = (candidates) => candidateLosses(evaluation, round, initial, candidates);
        return selectClients(config, { round, clients: session.clients, tiers: session.tiers, history: new Map(), losses });
      }),
    );
    const measured = isMeasured ? await measure(config, session) : null;
    const time = measured && { ...measured, ...(await timesOf(validated, measured, session, selections)) };
    const slots = measured && proposeSlots(measured, session.environment.device, config.workers.threads);
    const roundsOf = new Map(session.clients.map(({ id }) => [id, [] as number[]]));
    for (const [place, selected] of selections.entries()) for (const { id } of selected) roundsOf.get(id)?.push(place + 1);
    const bytesOf = (dtype: keyof typeof WIRE_DTYPES, r: number) =>
      encodedBytes(WIRE_DTYPES[dtype], r * layout.width) + encodedBytes(WIRE_DTYPES[dtype], layout.denseSize);
    const clients = session.clients.map((client, place) => ({
      ...client,
      tokens: prepared.clients[place]?.n_tokens ?? 0,
      truncated: prepared.clients[place]?.n_truncated ?? 0,
      mix: prepared.clients[place]?.mix ?? [],
      rounds: roundsOf.get(client.id) ?? [],
      bytesPerFit: { down: bytesOf(config.wire.downlink, client.r), up: bytesOf(config.wire.update, client.r) },
    }));
    const total = (way: "down" | "up") => clients.reduce((sum, client) => sum + client.rounds.length * client.bytesPerFit[way], 0);
    const merged = config.strategy.aggregation.policy?.name === "flora" ? mergedRows(selections) : 0;
    return {
      clients,
      tiers: session.tiers,
      rounds: config.rounds,
      labels: prepared.labels,
      evalExamples: prepared.n_eval,
      truncated: prepared.n_truncated,
      remarks: prepared.remarks,
      adapted: groupModules(layout),
      leftOut: session.leftOut,
      adaptedModules: layout.modules.length,
      baseParameters: session.parameters,
      adapterParameters: layout.r * layout.width,
      denseParameters: layout.denseSize,
      bytesDown: total("down") + merged * encodedBytes("F32", layout.width),
      bytesUp: total("up"),
      time,
      slots,
    };
  } finally {
    await session.close();
  }
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
  { prepared, tiers }: Session,
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
