import { initialAdapter } from "../adapter/initialise.ts";
import type { Adapter } from "../adapter/adapter.ts";
import { type AdapterLayout, createLayout } from "../adapter/layout.ts";
import type { PeftIdentity } from "../adapter/peft.ts";
import { resolveTiers } from "../config/resolve-tiers.ts";
import type { RunConfig } from "../config/schema.ts";
import type { ClientColumns } from "../protocol/client-columns.ts";
import { decodeClients } from "../protocol/codec.ts";
import type { WorkerMessageOf } from "../protocol/messages.ts";
import type { RankedClient } from "../strategy/strategy.ts";
import { decode } from "../tensor/encoded.ts";
import { deriveSeed } from "../base/rng.ts";
import type { Span } from "../telemetry/telemetry.ts";
import type { WorkerLauncher } from "../workers/launch.ts";
import { cacheFolder } from "../installation.ts";
import { named, type PoolListener, type Reply, type TaskRequest, type WorkerHello, type WorkerPool } from "../workers/task.ts";
import { rankClients } from "./client-list.ts";
import { openPool } from "./open-pool.ts";
import type { NewEvent } from "./events.ts";
import { borrowFrom, type SharedPool } from "./shared-pool.ts";
import { requireSameData, requireSameDevice, requireSameModel } from "./same-on-every-worker.ts";
import { readSource } from "../artifacts/init-source.ts";
import type { Origin } from "../records/run-record.ts";
import { startFrom } from "../artifacts/init-adapter.ts";
import { remarksOnTraining } from "./training-remarks.ts";
import { toDataSpec, toLoraSpec, toModelSpec } from "../config/wire-specs.ts";

/** What workers report about the data and the model. */
export interface Answers {
  readonly prepared: WorkerMessageOf<"prepared">;
  readonly columns: ClientColumns;
  readonly loaded: WorkerMessageOf<"loaded">;
}

/** What these answers mean for a config. */
export interface Findings extends Answers {
  readonly tiers: readonly number[];
  readonly clients: readonly RankedClient[];
  readonly layout: AdapterLayout;
  /** Parameters of the frozen base model. */
  readonly parameters: number;
  /** What adapter_config.json says about the model. */
  readonly peft: PeftIdentity;
  /** Weights that no adapter acts on. */
  readonly leftOut: WorkerMessageOf<"loaded">["left_out"];
}

/** Workers that have the data and the model: all that training, or planning it, needs. */
export interface Session extends Findings {
  readonly pool: WorkerPool;
  /** The global adapter before round 1; computed at each call, since nothing needs it later in the run. */
  initial(): Promise<Adapter>;
  /** What the first worker reported about itself. */
  readonly environment: Pick<WorkerHello, "versions" | "variables" | "device">;
  /** Ends the workers and removes the socket. Safe to call twice. */
  close(): Promise<void>;
}

export interface SessionOptions {
  readonly config: RunConfig;
  /** What `lora.init_from` resolved to when the run began. */
  readonly origin?: Origin | undefined;
  readonly logFolder: string;
  readonly launcher?: WorkerLauncher | undefined;
  /** Workers that are there already. */
  readonly shared?: SharedPool | undefined;
  readonly signal: AbortSignal;
  readonly listener?: Pick<PoolListener, "failure" | "givenUp" | "assigned">;
  emit(event: NewEvent): void;
  /** What it does is a part of this. */
  readonly span?: Span | undefined;
}

export async function openSession(options: SessionOptions): Promise<Session> {
  const { config, emit } = options;
  const requests = requestsOf(config);
  let environment: WorkerHello | undefined;
  emit({ type: "phase-start", phase: "start workers" });
  const { signal } = options;
  const listener: PoolListener = {
    ready(worker) {
      environment ??= worker;
      emit({ type: "worker-ready", ...worker });
    },
    status: (status) => emit({ type: "worker-status", ...status }),
    ...options.listener,
  };
  const open = () =>
    openPool(config, {
      ...(options.launcher && { launcher: options.launcher }),
      logFolder: options.logFolder,
      signal,
      accept: (worker) => {
        if (environment && !config.workers.mixedDevices) requireSameDevice(environment, worker);
      },
      listener,
    });
  const { pool, close } = options.shared ? borrowFrom(options.shared, { signal, listener }) : await open();

  try {
    await pool.start();
    emit({ type: "phase-start", phase: "prepare data" });
    const { clients, ...data } = await prepareData(options, pool, requests);
    emit({ type: "phase-start", phase: "load model" });
    const { loaded, dense } = await loadModel(options, pool, requests, data.prepared.index);
    if (!environment) throw new Error("unreachable: a worker answered without having said hello");
    const findings = findingsOf(config, { ...data, loaded }, clients);
    return { ...findings, pool, environment, close, initial: () => initialOf(options, findings.layout, dense) };
  } catch (error) {
    await close();
    throw error;
  }
}

/** What a session asks its workers. */
export function requestsOf(config: RunConfig): {
  readonly prepare: TaskRequest<"prepare">;
  readonly load: Omit<TaskRequest<"load">, "index">;
} {
  const [model, lora, cache_dir] = [toModelSpec(config), toLoraSpec(config, resolveTiers(config)), cacheFolder()];
  return {
    prepare: { type: "prepare", seed: deriveSeed(config.seed, "data"), model, lora, data: toDataSpec(config), cache_dir },
    load: { type: "load", seed: deriveSeed(config.seed, "model"), model, lora, labels: [], cache_dir },
  };
}

export function findingsOf(config: RunConfig, answers: Answers, clients = clientsOf(config, answers)): Findings {
  const tiers = resolveTiers(config);
  const { loaded } = answers;
  return {
    ...answers,
    tiers,
    clients,
    layout: createLayout({ r: config.lora.r, tiers, scale: config.lora.scale }, loaded),
    parameters: loaded.n_parameters,
    peft: { taskType: loaded.peft_type, modulesToSave: loaded.modules_to_save },
    leftOut: loaded.left_out,
  };
}

function clientsOf(config: RunConfig, { prepared, columns }: Pick<Answers, "prepared" | "columns">): readonly RankedClient[] {
  return rankClients(config, resolveTiers(config), columns, prepared.labels);
}

/** How the table of clients arrives. */
const CLIENT_TABLE = { expect: "any", dtypes: ["U8"] } as const;

async function prepareData(
  { config, emit, span }: SessionOptions,
  pool: WorkerPool,
  { prepare }: { readonly prepare: TaskRequest<"prepare"> },
): Promise<Pick<Findings, "prepared" | "columns" | "clients">> {
  let columns: ClientColumns | undefined;
  const { message: prepared } = await pool.run<"prepare">({
    ...named({ kind: "prepare" }),
    request: prepare,
    span,
    ...CLIENT_TABLE,
    async accept({ message, payload }) {
      columns = decodeClients(payload.clients?.bytes ?? new Uint8Array(0), message.labels.length);
      // Its memory is of no use to later answers.
      return false;
    },
  });
  if (!columns) throw new Error("unreachable: an answer was accepted without its clients");
  const clients = clientsOf(config, { prepared, columns });
  emit({
    type: "data-ready",
    // Made when somebody reads it, since events are kept for late readers.
    get clients() {
      return clients.map(({ id, size, r }) => ({ id, size, r }));
    },
    labels: prepared.labels,
    evalExamples: prepared.n_eval,
    truncated: prepared.n_truncated,
    remarks: remarksOnTraining(config, prepared, columns),
  });
  return { prepared, columns, clients };
}

/** Has every worker load the model. The first answer describes it; all others, including those of later workers, must match. */
async function loadModel(
  { span }: SessionOptions,
  pool: WorkerPool,
  { prepare, load }: ReturnType<typeof requestsOf>,
  index: Answers["prepared"]["index"],
): Promise<{ readonly loaded: Answers["loaded"]; readonly dense: Float32Array }> {
  let first: Reply<"load"> | undefined;
  const { message, payload } = await pool.onEveryWorker<"load">({
    ...named({ kind: "load" }),
    request: { ...load, index },
    span,
    expect: "any",
    repair: {
      ...named({ kind: "prepare" }),
      request: prepare,
      ...CLIENT_TABLE,
      accept: ({ workerId, message }) => requireSameData(index, workerId, message as Answers["prepared"]),
    },
    accept: (reply) => {
      first ??= reply;
      requireSameModel(first, reply);
    },
  });
  return { loaded: message, dense: payload.dense ? decode(payload.dense) : new Float32Array(0) };
}

async function initialOf({ config, origin, emit }: SessionOptions, layout: AdapterLayout, dense: Float32Array): Promise<Adapter> {
  const drawn = initialAdapter(layout, dense, deriveSeed(config.seed, "adapter"));
  if (!origin) return drawn;
  const { adapter, r, lost } = startFrom(await readSource(origin.path, origin), layout, drawn);
  emit({ type: "adapter-ready", path: origin.path, round: origin.round ?? null, r, lost });
  return adapter;
}
