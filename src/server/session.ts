import { mkdir } from "node:fs/promises";
import { initialAdapter } from "../adapter/initialise.ts";
import type { Adapter } from "../adapter/adapter.ts";
import { type AdapterLayout, createLayout } from "../adapter/layout.ts";
import type { PeftIdentity } from "../adapter/peft.ts";
import { resolveTiers } from "../config/build.ts";
import { requireClients } from "../config/client-rules.ts";
import type { RunConfig } from "../config/schema.ts";
import { RefusedError } from "../errors.ts";
import type { ControllerMessageOf, WorkerMessageOf } from "../protocol/messages.ts";
import { assignRanks } from "../strategy/assign.ts";
import type { RankedClient } from "../strategy/strategy.ts";
import { decode } from "../tensor/encoded.ts";
import { createRng, deriveSeed } from "../tensor/rng.ts";
import { createSharedMemory } from "../transport/shared-memory.ts";
import { zeromqTransport } from "../transport/zeromq.ts";
import { countWorkers, resolveDevices } from "../workers/devices.ts";
import { processLauncher, type WorkerLauncher } from "../workers/launch.ts";
import { createWorkerPool } from "../workers/pool.ts";
import { cacheFolder, findPython, requirePython } from "../workers/python.ts";
import type { PoolListener, Reply, WorkerHello, WorkerPool } from "../workers/task.ts";
import type { RunEvent } from "./events.ts";
import { type Origin, readSource } from "./origin.ts";
import { startFrom } from "./start-from.ts";
import { toDataSpec, toLoraSpec, toModelSpec } from "./wire-specs.ts";

/** Workers that are up, know the data and hold the model: all that training, or planning it, needs. */
export interface Session {
  readonly pool: WorkerPool;
  readonly tiers: readonly number[];
  readonly clients: readonly RankedClient[];
  readonly layout: AdapterLayout;
  /** The global adapter before round 1, made anew: it would be dead weight for the rest of the run. */
  initial(): Promise<Adapter>;
  readonly prepared: WorkerMessageOf<"prepared">;
  /** Parameters of the frozen base model. */
  readonly parameters: number;
  /** What adapter_config.json says of the model. */
  readonly peft: PeftIdentity;
  /** Weights that no adapter acts on. */
  readonly leftOut: WorkerMessageOf<"loaded">["left_out"];
  /** What the first worker said of itself: versions, device. */
  readonly environment: Pick<WorkerHello, "versions" | "device">;
  /** Ends the workers and removes the socket. Safe to call twice. */
  close(): Promise<void>;
}

export interface SessionOptions {
  readonly config: RunConfig;
  /** What `lora.init_from` led to as the run began. */
  readonly origin?: Origin | undefined;
  readonly logFolder: string;
  readonly launcher?: WorkerLauncher | undefined;
  readonly signal: AbortSignal;
  readonly listener?: Pick<PoolListener, "failure" | "givenUp">;
  emit(event: RunEvent): void;
}

export async function openSession(options: SessionOptions): Promise<Session> {
  const { config, emit } = options;
  const tiers = resolveTiers(config);
  const [model, data] = [toModelSpec(config), toDataSpec(config)];
  const launcher = options.launcher ?? (await pythonLauncher(config));
  const devices = await resolveDevices(config.workers.devices);
  await mkdir(options.logFolder, { recursive: true });

  let environment: Session["environment"] | undefined;
  const transport = await zeromqTransport({ kind: config.workers.transport });
  const memory = createSharedMemory();
  const pool = createWorkerPool({
    launcher,
    transport,
    memory,
    devices,
    count: countWorkers(devices, config.workers),
    threads: config.workers.threads,
    retries: config.workers.retries,
    startTimeoutMs: config.workers.startTimeout * 1000,
    beatTimeoutMs: config.workers.beatTimeout * 1000,
    taskTimeoutMs: config.workers.taskTimeout * 1000,
    logFolder: options.logFolder,
    signal: options.signal,
    listener: {
      ready: (worker) => {
        environment ??= worker;
        emit({ type: "worker-ready", ...worker });
      },
      status: (status) => emit({ type: "worker-status", ...status }),
      ...options.listener,
    },
  });
  const close = async () => {
    try {
      await pool.close();
    } finally {
      await Promise.all([transport.close(), memory.close()]);
    }
  };

  try {
    emit({ type: "phase-start", phase: "start workers" });
    await pool.start();
    emit({ type: "phase-start", phase: "prepare data" });
    const { prepared, clients } = await prepareData(options, pool, tiers, { model, data });
    emit({ type: "phase-start", phase: "load model" });
    const loaded = await loadModel(options, pool, tiers, { model, index: prepared.index });
    if (!environment) throw new Error("unreachable: a worker answered that had never said hello");
    return { pool, tiers, clients, prepared, environment, close, ...loaded };
  } catch (error) {
    await close();
    throw error;
  }
}

async function pythonLauncher({ workers }: RunConfig): Promise<WorkerLauncher> {
  const python = findPython(workers.python);
  await requirePython(python);
  return processLauncher({ command: python });
}

async function prepareData(
  { config, emit }: SessionOptions,
  pool: WorkerPool,
  tiers: readonly number[],
  specs: Pick<ControllerMessageOf<"prepare">, "model" | "data">,
): Promise<Pick<Session, "prepared" | "clients">> {
  const { message: prepared } = await pool.run<"prepare">({
    id: "prepare",
    request: {
      type: "prepare",
      seed: deriveSeed(config.seed, "data"),
      lora: toLoraSpec(config, tiers),
      ...specs,
      cache_dir: cacheFolder(),
    },
  });
  requireClients(config, prepared.clients.length);
  const clients = rankClients(config, tiers, prepared);
  emit({
    type: "data-ready",
    clients: clients.map(({ id, size, r }) => ({ id, size, r })),
    labels: prepared.labels,
    evalExamples: prepared.n_eval,
    truncated: prepared.n_truncated,
    remarks: prepared.remarks,
  });
  return { prepared, clients };
}

/** Has every worker load the model; the first answer tells the adapter's layout, and the others must agree. */
async function loadModel(
  { config, origin, emit }: SessionOptions,
  pool: WorkerPool,
  tiers: readonly number[],
  specs: Pick<ControllerMessageOf<"load">, "model" | "index">,
): Promise<Pick<Session, "layout" | "initial" | "parameters" | "peft" | "leftOut">> {
  let first: Reply<"load"> | undefined;
  const { message, payload } = await pool.onEveryWorker<"load">({
    id: "load",
    request: { type: "load", seed: deriveSeed(config.seed, "model"), lora: toLoraSpec(config, tiers), ...specs },
    expect: "any",
    accept: (reply) => {
      first ??= reply;
      requireSameModel(first, reply);
    },
  });
  const layout = createLayout({ r: config.lora.r, tiers, scale: config.lora.scale }, message);
  const dense = payload.dense ? decode(payload.dense) : new Float32Array(0);
  const initial = async () => {
    const drawn = initialAdapter(layout, dense, deriveSeed(config.seed, "adapter"));
    if (!origin) return drawn;
    const { adapter, r, lost } = startFrom(await readSource(origin.path, origin), layout, drawn);
    emit({ type: "adapter-ready", path: origin.path, round: origin.round ?? null, r, lost });
    return adapter;
  };
  const peft = { taskType: message.peft_type, modulesToSave: message.modules_to_save };
  return { layout, initial, parameters: message.n_parameters, peft, leftOut: message.left_out };
}

function rankClients(config: RunConfig, tiers: readonly number[], prepared: WorkerMessageOf<"prepared">): readonly RankedClient[] {
  const clients = prepared.clients.map((client, index) => ({
    id: client.id,
    index,
    size: client.n,
    labelCounts: client.label_counts,
    profile: config.data.profiles?.[index] ?? {},
  }));
  return assignRanks(clients, config.strategy.rankAssignment, {
    clients,
    tiers,
    rng: (purpose) => createRng(deriveSeed(config.seed, "policy", purpose)),
  });
}

/** Workers that loaded different models (another version, another cache) must not train one adapter. */
function requireSameModel(first: Reply<"load">, reply: Reply<"load">): void {
  const describe = ({ message, payload }: Reply<"load">) =>
    JSON.stringify([
      message.modules,
      message.dense,
      message.n_parameters,
      message.tensors.map((tensor) => tensor.crc32),
      payload.dense?.length ?? 0,
    ]);
  const [expected, received] = [describe(first), describe(reply)];
  if (expected !== received) {
    throw new RefusedError(
      `the model that worker ${reply.workerId} loaded`,
      `the one of worker ${first.workerId}: ${expected.slice(0, 500)}`,
      received.slice(0, 500),
    );
  }
}
