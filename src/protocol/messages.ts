import { z } from "zod";
import {
  basis,
  bytes,
  chunk,
  count,
  credit,
  device,
  dtype,
  end,
  examples,
  examplesHeader,
  keeping,
  list,
  metric,
  positive,
  request,
  seed,
  session,
  source,
  table,
  task,
  tensors,
  text,
  workerId,
} from "./fields.ts";
import { generationReports, generationRequest } from "./generation-messages.ts";
import { launcherReports, launcherRequests } from "./launcher-messages.ts";
import { dataSpec, fitSpec, loraSpec, modelSpec } from "./specs.ts";

const indexFile = z.strictObject({ path: z.string(), sha256: z.string() });
export const controllerMessage = z.discriminatedUnion("type", [
  z.strictObject({ ...request, type: z.literal("prepare"), seed, model: modelSpec, lora: loraSpec, data: dataSpec, cache_dir: z.string() }),
  z.strictObject({
    ...request,
    type: z.literal("load"),
    seed,
    model: modelSpec,
    lora: loraSpec,
    /** Null: without data; only `generate` may follow. */
    index: indexFile.nullable(),
    /** Of a model without data, in the order of their numbers; otherwise empty. */
    labels: z.array(z.string()),
    cache_dir: z.string(),
  }),
  z.strictObject({
    ...request,
    type: z.literal("fit"),
    round: positive,
    client_id: z.string(),
    r: positive,
    scale: z.number(),
    seed,
    fit: fitSpec,
    /** The dtype of the update's `rows` and `dense`. */
    update_dtype: dtype,
    /** The worker keeps the update and adds it up once it is granted; null: it sends the update. */
    partial_sum: z
      .strictObject({
        basis,
        /** An update with a larger |value| fails. */
        largest: z.number().positive(),
        /** Whether `fitted` must tell the update's norm. */
        needs_norm: z.boolean(),
      })
      .nullable(),
    tensors,
  }),
  /** Adds a fit's update, which the worker holds, to its partial sum with this weight; null: forgets it. */
  z.strictObject({ ...task, type: z.literal("grant"), weight: z.number().positive().nullable() }),
  /** Asks for the sum of all updates granted since the last one; it begins anew after that. */
  z.strictObject({ ...request, type: z.literal("collect"), basis, dtype: z.enum(["F64", "packed"]) }),
  z.strictObject({
    ...request,
    type: z.literal("evaluate"),
    round: count,
    /** Which examples: held out from all clients ("global"), or a client's own held-out ("client") or training ones ("train"). */
    examples: z.enum(["global", "client", "train"]),
    /** Null for "global". */
    client_id: z.string().nullable(),
    /** The adapter's `rows` have the largest of these ranks. */
    ranks: z.array(positive).min(1),
    scale: z.number(),
    /** A range of those examples. */
    start: count,
    count: positive,
    batch_size: positive,
    /** causal-lm: tokens to generate, greedily, for each example; 0 for none. */
    max_new_tokens: count,
    /** How many of the range's first examples to tell, with their generated answers. */
    samples: count,
    tensors,
  }),
  generationRequest,
  /** Has a worker keep bytes in a file in memory, which it lends to the workers of its machine. Files are numbered from 0. */
  z.strictObject({
    ...task,
    type: z.literal("keep"),
    file: count,
    /** Of the whole file: it is made, or cut, to this size. */
    size: count,
    /** Where the bytes go. */
    offset: count,
    tensors: keeping,
  }),
  /** Over tcp: to be answered by a connection that wants to join. */
  z.strictObject({ ...session, type: z.literal("challenge"), nonce: bytes }),
  ...launcherRequests,
  z.strictObject({ ...task, type: z.literal("cancel") }),
  z.strictObject({ ...session, type: z.literal("stop") }),
  chunk,
  end,
  credit,
]);
export type ControllerMessage = z.infer<typeof controllerMessage>;

/**
 * Why a task failed: the user has to fix something; it was cancelled; the prepared data is not on this machine; the memory of
 * another worker could not be read; anything else.
 */
const ERROR_KINDS = ["input", "cancelled", "unprepared", "unshared", "failed"] as const;

export const workerMessage = z.discriminatedUnion("type", [
  /** Over tcp, first: the connection is this worker's, as its proof will show. */
  z.strictObject({ ...session, type: z.literal("join"), worker_id: workerId }),
  /** The answer to a challenge; see README.md. */
  z.strictObject({ ...session, type: z.literal("proof"), proof: bytes }),
  z.strictObject({
    ...session,
    type: z.literal("hello"),
    pid: positive,
    versions: z.record(z.string(), z.string()),
    /** Environment variables by which libraries choose their kernels. */
    variables: z.record(z.string(), z.string()),
    device,
    threads: positive,
    /** Whether it can take tensors from shared memory. */
    shares_memory: z.boolean(),
    /** The machine's name. */
    host: z.string().max(255),
    /** Workers with the same value can read one another's memory; null if it cannot share any. */
    memory: z.string().max(200).nullable(),
  }),
  /** Instead of hello: its device does not exist or cannot be used. It then takes no tasks and waits to be ended. */
  z.strictObject({ ...session, type: z.literal("unavailable"), message: text }),
  z.strictObject({
    ...session,
    type: z.literal("beat"),
    activity: z.string().max(200),
    task_id: z.string().nullable(),
    step: count,
    steps: count,
  }),
  z.strictObject({
    ...task,
    type: z.literal("prepared"),
    index: indexFile,
    /** Of all files that examples come from, including files that rows name. */
    data_sha256: z.string(),
    /** A JSON file that lists every file that affects this answer and `loaded`; see README.md. */
    sources: indexFile.nullable(),
    labels: list(z.string()),
    n_eval: count,
    /** Examples that were cut to max_length tokens. */
    n_truncated: count,
    /** What the user should know about the data, though it can be used. */
    remarks: list(z.string()),
    /** `clients`: what is known of every client, in columns. */
    tensors: table,
  }),
  z.strictObject({
    ...task,
    type: z.literal("loaded"),
    modules: list(z.strictObject({ name: z.string(), in: positive, out: positive }), 1),
    dense: list(z.strictObject({ name: z.string(), shape: list(positive) })),
    /** Parameters of the base model, frozen. */
    n_parameters: count,
    /** For adapter_config.json; null is PEFT's plain model. */
    peft_type: z.string().nullable(),
    modules_to_save: list(z.string()),
    /** Weights that no adapter acts on; modules with names that differ only in numbers are counted as one. */
    left_out: list(z.strictObject({ name: z.string(), kind: z.string(), count: positive, parameters: count })),
    source,
    tensors,
  }),
  z.strictObject({
    ...task,
    type: z.literal("fitted"),
    client_id: z.string(),
    r: positive,
    scale: z.number(),
    n: positive,
    steps: count,
    /** Forward/backward passes over a batch. */
    passes: count,
    /** Mean training loss over the steps. */
    loss: metric,
    /** √(mean over the steps of loss²). */
    rms_loss: metric,
    seconds: z.number(),
    /** Mean over the steps of the gradients' joint L2 norm before clipping; null if nothing is clipped. */
    grad_norm: metric,
    /** ‖Δ‖₂ of the update, over rows and dense together, in float64; null unless it was asked for. */
    norm: metric,
    /** Peak memory of the device during the fit; on a CPU, of the process. Null if it is unknown. */
    peak_memory_bytes: count.nullable(),
    tensors,
  }),
  z.strictObject({
    ...task,
    type: z.literal("collected"),
    basis,
    /** The fits whose updates are in the sum. */
    members: list(z.strictObject({ task_id: task.task_id, attempt: positive }), 1),
    tensors,
  }),
  /** The bytes are in this file of the worker's process. */
  z.strictObject({ ...task, type: z.literal("kept"), fd: count }),
  ...launcherReports,
  z.strictObject({
    ...task,
    type: z.literal("evaluated"),
    ...examplesHeader,
    /** Of the samples that were asked for: the answers in the order of the asked ranks. */
    samples: list(z.strictObject({ prompt: text, reference: text, answers: list(text) })),
    seconds: z.number(),
    tensors: examples,
  }),
  ...generationReports,
  z.strictObject({
    ...task,
    type: z.literal("failure"),
    error: z.strictObject({
      kind: z.enum(ERROR_KINDS),
      /** For "failed", preceded by the exception's name: `ValueError: …`. */
      message: text,
      traceback: text,
      /** For "input": everything that the user has to fix, with the config's key if known. */
      problems: list(z.strictObject({ option: z.string().nullable(), message: text })),
    }),
  }),
  chunk,
  end,
  credit,
]);
export type WorkerMessage = z.infer<typeof workerMessage>;

export type WorkerMessageOf<T extends WorkerMessage["type"]> = Extract<WorkerMessage, { type: T }>;
export type ControllerMessageOf<T extends ControllerMessage["type"]> = Extract<ControllerMessage, { type: T }>;
