import process from "node:process";
import { setImmediate } from "node:timers/promises";
import type { Adapter } from "../adapter/adapter.ts";
import { createLayout } from "../adapter/layout.ts";
import { stateLength } from "../adapter/optimizer-state.ts";
import { RefusedError } from "../errors.ts";
import { encodeClients } from "../protocol/codec.ts";
import type { ControllerMessageOf, WorkerMessageOf } from "../protocol/messages.ts";
import type { LaunchOptions } from "../workers/launch.ts";
import { SESSION } from "../protocol/limits.ts";
import { HeldSum } from "./held-sum.ts";
import { type TaskAnswer, type TaskMessage, type Tensor, type Tensors } from "./connection.ts";
import { columnsOf, LABELS, makeTinyData, NO_DATA, type TinyData } from "./tiny-data.ts";
import { generate } from "./tiny-answer.ts";
import { evaluate } from "./tiny-evaluation.ts";
import { createTinyModel, finite, judge, SECONDS, type TinyModel, type Trained, trainTiny, WIDTH, withMerged } from "./tiny-model.ts";

export type Progress = Omit<WorkerMessageOf<"beat">, "protocol_version" | "type">;

/** A fit that a worker is asked for. */
export interface TinyFit {
  readonly clientId: string;
  readonly round: number;
  /** The client's rank. */
  readonly r: number;
  /** From 1. */
  readonly attempt: number;
  /** The adapter that the client starts from. */
  readonly received: Adapter;
  /** Trains according to the config. Resolves with the update: trained − received. */
  train(): Promise<Adapter>;
}

/** Throws once the task has been cancelled. */
export type Report = (step: number, steps: number) => void;

export class CancelledError extends Error {
  constructor(taskId: string) {
    super(`${taskId} was cancelled`);
    this.name = "CancelledError";
  }
}

interface Answer {
  readonly message: TaskAnswer;
  readonly payload?: readonly Tensor[];
}

/** The tasks of a worker. */
export interface TinyWorker {
  describe(options: LaunchOptions): Omit<WorkerMessageOf<"hello">, "protocol_version" | "type">;
  /** `say` sends the pieces of an answer that is still growing. */
  run(task: TaskMessage, tensors: Tensors, report: Report, say: (text: WorkerMessageOf<"text">) => void): Promise<Answer>;
  /** What becomes of an update that the worker holds. */
  grant(grant: ControllerMessageOf<"grant">): void;
}

export function createTinyWorker(datasets: Map<string, TinyData>, fitAs: (fit: TinyFit) => Adapter | Promise<Adapter>): TinyWorker {
  let loaded: { readonly model: TinyModel; readonly data: TinyData } | undefined;
  let held: HeldSum | undefined;
  const requireLoaded = () => loaded ?? refuse("a task", "load before it");
  return {
    describe: ({ threads }) => ({
      pid: process.pid,
      versions: {},
      variables: {},
      device: { type: "cpu", name: "prelort/testing", capability: null, memory_bytes: null },
      threads,
      shares_memory: false,
      host: "tiny",
      memory: null,
    }),
    async run(task, tensors, report, say) {
      switch (task.type) {
        case "prepare": {
          const data = prepare(task);
          datasets.set(data.sha256, data);
          const bytes = encodeClients(columnsOf(data));
          return {
            message: prepared(task, data),
            payload: [{ name: "clients", shape: [bytes.length], values: { dtype: "U8", length: bytes.length, bytes } }],
          };
        }
        case "load": {
          const data = task.index ? datasets.get(task.index.sha256) : NO_DATA;
          if (!data) throw new RefusedError("the index", "one that this launcher's workers made", task.index?.sha256 ?? "none");
          const { tiers, modules_to_save: saved } = task.lora;
          const model = createTinyModel(task.seed, { tiers, trainsBias: saved === null || saved.includes("head") });
          loaded = { model, data };
          const { dense } = model.shape;
          return { message: described(task, model), payload: dense.map(() => denseTensor(new Float32Array(LABELS.length))) };
        }
        case "fit": {
          const { message, payload } = await fit(task, tensors, report, requireLoaded(), fitAs);
          if (!task.partial_sum) return { message, payload };
          if (!held?.isOf(task.partial_sum.basis)) held = new HeldSum(task.partial_sum);
          return { message: { ...message, norm: held.hold(task, payload) } };
        }
        case "collect":
          return (held ?? refuse("collect", "a fit before it")).collect(task);
        case "evaluate":
          await setImmediate();
          return evaluate(task, tensors, requireLoaded());
        case "generate":
          return { message: await generate(task, tensors, report, requireLoaded(), say) };
      }
    },
    grant: (grant) => held?.grant(grant),
  };
}

function refuse(subject: string, expected: string): never {
  throw new RefusedError(subject, expected, "none");
}

function denseTensor(values: Float32Array): Tensor<Float32Array> {
  return { name: "dense", shape: [values.length], values };
}

function stateTensor(values: Float32Array): Tensor<Float32Array> {
  return { name: "state", shape: [values.length], values };
}

/** Training does without an optimizer's state, which comes back as it was sent. */
function newState({ shape, tiers }: TinyModel, { fit: { optimizer }, r, scale }: ControllerMessageOf<"fit">): Float32Array {
  return new Float32Array(stateLength(optimizer, createLayout({ r, tiers, scale }, shape), r));
}

interface Loaded {
  readonly model: TinyModel;
  readonly data: TinyData;
}

function prepare({ data, seed }: ControllerMessageOf<"prepare">): TinyData {
  if (data.clients === null) throw new RefusedError("data.clients", "a number of clients", "none");
  return makeTinyData(seed, { clients: data.clients, heldOut: data.eval_examples, ownHeldOut: data.client_eval_examples });
}

function prepared({ task_id, attempt }: TaskMessage, { heldOut, sha256 }: TinyData): WorkerMessageOf<"prepared"> {
  return {
    ...SESSION,
    task_id,
    attempt,
    type: "prepared",
    index: { path: "prelort/testing", sha256 },
    data_sha256: sha256,
    sources: null,
    labels: [...LABELS],
    n_eval: heldOut.length,
    n_truncated: 0,
    remarks: [],
    tensors: [],
  };
}

function described({ task_id, attempt }: TaskMessage, { base, shape }: TinyModel): WorkerMessageOf<"loaded"> {
  const hasBias = shape.dense.length > 0;
  return {
    ...SESSION,
    task_id,
    attempt,
    type: "loaded",
    modules: [...shape.modules],
    dense: shape.dense.map(({ name, shape }) => ({ name, shape: [...shape] })),
    n_parameters: base.length,
    peft_type: null,
    modules_to_save: hasBias ? ["head"] : [],
    left_out: [],
    source: { commit: null, files: [] },
    tensors: [],
  };
}

async function fit(
  task: ControllerMessageOf<"fit">,
  { rows, dense = new Float32Array(0), merged, state }: Tensors,
  report: Report,
  { model, data }: Loaded,
  fitAs: (fit: TinyFit) => Adapter | Promise<Adapter>,
): Promise<{ readonly message: WorkerMessageOf<"fitted">; readonly payload: readonly Tensor<Float32Array>[] }> {
  const client = data.clients.find(({ id }) => id === task.client_id);
  if (!client || !rows) throw new RefusedError("a fit", "a known client and rows", task.client_id);
  if (task.update_dtype !== "F32") throw new RefusedError("wire.update", "f32 alone, from tiny workers", task.update_dtype);
  const received = { r: task.r, rows, dense };
  const used = merged ? withMerged(model, merged, task.scale) : model;
  const steps = task.fit.local_steps;
  const beforeStep = async (step: number) => {
    await setImmediate();
    report(step, steps);
  };
  await beforeStep(0);
  let trained: Trained | undefined;
  const train = async () => {
    trained = await trainTiny(used, { request: task, examples: client.train, received, asLoaded: model, beforeStep });
    return trained.delta;
  };
  const update = await fitAs({ clientId: client.id, round: task.round, r: task.r, attempt: task.attempt, received, train });
  const losses = trained?.losses.length ? trained.losses : client.train.map((example) => judge(used, received, task, example).loss);
  const norms = task.fit.max_grad_norm > 0 ? (trained?.norms ?? []) : [];
  const message: WorkerMessageOf<"fitted"> = {
    ...SESSION,
    task_id: task.task_id,
    attempt: task.attempt,
    type: "fitted",
    client_id: client.id,
    r: task.r,
    scale: task.scale,
    n: client.train.length,
    steps,
    passes: trained?.passes ?? 0,
    loss: meanOf(losses),
    rms_loss: finite(Math.sqrt(meanOf(losses.map((loss) => loss * loss)) ?? NaN)),
    seconds: SECONDS,
    grad_norm: meanOf(norms),
    norm: null,
    peak_memory_bytes: null,
    tensors: [],
  };
  const payload: Tensor<Float32Array>[] = [{ name: "rows", shape: [update.r, WIDTH], values: update.rows }];
  if (update.dense.length > 0) payload.push(denseTensor(update.dense));
  if (task.fit.client_state === "keep") payload.push(stateTensor(state ?? newState(model, task)));
  return { message, payload };
}

/** Null if there are no values or the mean is not finite, as the wire requires. */
function meanOf(values: readonly number[]): number | null {
  return finite(values.reduce((sum, value) => sum + value, 0) / values.length);
}
