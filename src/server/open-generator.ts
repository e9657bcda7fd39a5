import { readFile } from "node:fs/promises";
import path from "node:path";
import { initialAdapter } from "../adapter/initialise.ts";
import { createLayout } from "../adapter/layout.ts";
import { startFrom } from "../artifacts/init-adapter.ts";
import { originOf, readSource } from "../artifacts/init-source.ts";
import { parseJson } from "../base/json.ts";
import { deriveSeed } from "../base/rng.ts";
import { buildRun, validateRun } from "../config/build.ts";
import { resolveTiers } from "../config/resolve-tiers.ts";
import { type LoadedConfig, withConfig } from "../config/load.ts";
import type { RunConfig } from "../config/schema.ts";
import { toDataSpec } from "../config/wire-specs.ts";
import { ConfigError } from "../errors.ts";
import { baseRemarks } from "../records/model-source.ts";
import { rememberCode } from "../records/named-code.ts";
import { recordedRun } from "../records/recorded-run.ts";
import { runRecord } from "../records/run-record.ts";
import { decode } from "../tensor/encoded.ts";
import type { WorkerLauncher } from "../workers/launch.ts";
import { named, type Reply, type WorkerPool } from "../workers/task.ts";
import { type Answer, createAsk } from "./answer.ts";
import type { FederateOptions } from "./federate.ts";
import { makeLogFolder } from "./log-folder.ts";
import { openPool } from "./open-pool.ts";
import type { Question } from "./question.ts";
import { requireSameModel } from "./same-on-every-worker.ts";
import { requestsOf } from "./session.ts";

interface AnyModel {
  /** The round whose adapter is asked, or `best`; by default the last committed one. */
  readonly round?: number | "best" | undefined;
  /** Ends the worker; answers reject with an InterruptedError. */
  readonly signal?: AbortSignal | undefined;
  readonly launcher?: WorkerLauncher | undefined;
}

/** The model of a run. */
export interface RunModel extends AnyModel {
  /** The run's directory. The run may be finished, interrupted or under way; it is only read. */
  readonly run: string;
  /** Overrides of the recorded config, `key=value` in YAML's spelling, such as `workers.devices=[cpu]`. */
  readonly set?: readonly string[] | undefined;
}

/** The model of a config, with the adapter that `lora.init_from` names; the base model without one. */
export interface ConfigModel extends AnyModel, Omit<FederateOptions, "overwrite" | "resume" | "pool"> {
  readonly run?: undefined;
}

export type ModelOptions = RunModel | ConfigModel;

/** A trained model in memory, in one worker, that answers one question after the other. */
export interface TextGenerator extends AsyncDisposable {
  /** The adapter's rank: the largest that may be asked. */
  readonly r: number;
  readonly tiers: readonly number[];
  readonly task: string;
  /** The task has conversations, so that a question may have earlier turns. */
  readonly isChat: boolean;
  /** What the user should know, such as that the base model is another. */
  readonly remarks: readonly string[];
  /** Throws a ConfigError if an option is wrong. Questions wait for those before them. */
  ask(question: Question): Answer;
  /** Ends the worker. Safe to call twice. */
  close(): Promise<void>;
}

/**
 * Loads a model and its adapter, to be asked at any rank. It needs none of the data that the adapter was trained on. One worker is
 * started, whatever number the config names.
 */
export function openGenerator(options: ModelOptions): Promise<TextGenerator> {
  return openFor(options, () => undefined);
}

/** What is known of a model before it is loaded. */
type Ranks = Pick<TextGenerator, "r" | "tiers">;

/** As openGenerator. `check` may refuse a first question before anything is started. */
export async function openFor(options: ModelOptions, check: (model: Ranks) => void): Promise<TextGenerator> {
  const { round, signal = new AbortController().signal, launcher } = options;
  if (options.run === undefined) {
    const { run: _, round: __, signal: ___, launcher: ____, ...input } = options;
    return open(validateRun(input), { round, signal, launcher, check });
  }
  const loaded = await recorded(options);
  return withConfig(loaded, (config) => open(validateRun(buildRun(config)), { round, signal, launcher, check }));
}

function recorded({ run, set = [] }: RunModel): Promise<LoadedConfig> {
  const assignment = `lora.init_from=${JSON.stringify(path.resolve(run))}`;
  return recordedRun(run, {
    given: [{ option: "run-dir", assignment }],
    set,
    inScript: "openGenerator({ … }), with the run as lora.init_from",
  });
}

interface Opening extends AnyModel {
  readonly signal: AbortSignal;
  check(model: Ranks): void;
}

async function open(config: RunConfig, { round, signal, launcher, check }: Opening): Promise<TextGenerator> {
  const { task, problemType } = config.model;
  const ranks = { r: config.lora.r, tiers: resolveTiers(config) };
  check(ranks);
  const logFolder = await makeLogFolder("generate");
  await rememberCode(config);
  const origin = await originOf(config, undefined, round);
  const record = origin?.round === undefined ? undefined : parseJson(await readFile(path.join(origin.path, "run.json"), "utf8"));
  const labels = runRecord.pick({ labels: true }).safeParse(record).data?.labels ?? [];
  if (task === "image-classification") {
    throw new ConfigError([{ path: "model.task", message: "must be a task that reads text: a model of images cannot be asked" }]);
  }
  if (task === "sequence-classification" && problemType !== "regression" && labels.length === 0) {
    throw new ConfigError([{ path: "lora.init_from", message: "must name a run: only its record has the labels of a classifier" }]);
  }
  // A second try would tell an answer twice.
  const once = { ...config, workers: { ...config.workers, retries: 0 } };
  const { pool, close } = await openPool(once, { ...(launcher && { launcher }), logFolder, signal, count: 1, least: 1 });
  try {
    await pool.start();
    const { message, payload } = await load(pool, config, labels);
    const layout = createLayout({ ...ranks, scale: config.lora.scale }, message);
    const dense = payload.dense ? decode(payload.dense) : new Float32Array(0);
    const drawn = initialAdapter(layout, dense, deriveSeed(config.seed, "adapter"));
    const adapter = origin ? startFrom(await readSource(origin.path, origin), layout, drawn).adapter : drawn;
    const onAbort = () => void close();
    const end = async () => {
      signal.removeEventListener("abort", onAbort);
      await close();
    };
    signal.addEventListener("abort", onAbort);
    return {
      ...ranks,
      task,
      isChat: config.data.messages !== undefined || config.data.chat,
      remarks: origin ? baseRemarks(record, message.source) : [],
      ask: createAsk({ pool, layout, adapter, data: templatesOf(config) }),
      close: end,
      [Symbol.asyncDispose]: end,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function load(pool: WorkerPool, config: RunConfig, labels: readonly string[]): Promise<Reply<"load">> {
  let first: Reply<"load"> | undefined;
  return pool.onEveryWorker<"load">({
    ...named({ kind: "load" }),
    request: { ...requestsOf(config).load, index: null, labels: [...labels] },
    expect: "any",
    // A worker in place of one that died.
    accept: (reply) => {
      first ??= reply;
      requireSameModel(first, reply);
    },
  });
}

/** The section of the data, of which a question needs the templates alone: its files may not be on this machine. */
function templatesOf(config: RunConfig): ReturnType<typeof toDataSpec> {
  return toDataSpec({ ...config, data: { ...config.data, path: "", evalPath: undefined } });
}
