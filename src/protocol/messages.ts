import { z } from "zod";
import { bytes, chunk, count, credit, dtype, end, list, metric, positive, session, task, tensors, text } from "./fields.ts";
import { dataSpec, fitSpec, loraSpec, modelSpec } from "./specs.ts";

/** A derived seed, 32 lower-case hex digits; the worker derives its own streams from it by purpose. */
const seed = z.string().regex(/^[0-9a-f]{32}$/);
const indexFile = z.strictObject({ path: z.string(), sha256: z.string() });
/** What a model is. */
const source = z.strictObject({
  /** Of a name on the hub, what it led to. */
  commit: z.string().nullable(),
  /** All that decides what it computes; the code is that of a task of one's own, and what it imports from its folder. */
  files: list(
    z.strictObject({ part: z.enum(["weights", "tokenizer", "config", "code"]), name: z.string(), bytes: count, sha256: z.string() }),
  ),
});

export const controllerMessage = z.discriminatedUnion("type", [
  z.strictObject({ ...task, type: z.literal("prepare"), seed, model: modelSpec, lora: loraSpec, data: dataSpec, cache_dir: z.string() }),
  z.strictObject({ ...task, type: z.literal("load"), seed, model: modelSpec, lora: loraSpec, index: indexFile, cache_dir: z.string() }),
  z.strictObject({
    ...task,
    type: z.literal("fit"),
    round: positive,
    client_id: z.string(),
    r: positive,
    scale: z.number(),
    seed,
    fit: fitSpec,
    /** Of the update's `rows` and `dense`. */
    update_dtype: dtype,
    tensors,
  }),
  z.strictObject({
    ...task,
    type: z.literal("evaluate"),
    round: count,
    /** Whose examples: held out from all ("global"), or a client's own, held out ("client") or training ones ("train"). */
    examples: z.enum(["global", "client", "train"]),
    /** Null for "global". */
    client_id: z.string().nullable(),
    /** The adapter's `rows` have the largest of them. */
    ranks: z.array(positive).min(1),
    scale: z.number(),
    /** A range of those examples. */
    start: count,
    count: positive,
    batch_size: positive,
    /** causal-lm: tokens to generate, greedily, for each example; 0 for none. */
    max_new_tokens: count,
    tensors,
  }),
  /** Over tcp: to be answered by a connection that wants to join. `routing_id` is the one that the controller knows it by. */
  z.strictObject({ ...session, type: z.literal("challenge"), nonce: bytes, routing_id: bytes }),
  z.strictObject({ ...task, type: z.literal("cancel") }),
  z.strictObject({ ...session, type: z.literal("stop") }),
  chunk,
  end,
  credit,
]);
export type ControllerMessage = z.infer<typeof controllerMessage>;

const device = z.strictObject({
  type: z.string(),
  name: z.string(),
  /** Which of its instructions are used: torch's name of a CPU's, the number of a CUDA device's. */
  capability: z.string().nullable(),
  memory_bytes: count.nullable(),
});

const tierSums = z.strictObject({
  r: positive,
  loss_sum: metric,
  /** What the loss was taken over. */
  n_tokens: count,
  n_examples: count,
  /** sequence-classification: per label, how often it was right, predicted, and true; null for causal-lm. */
  labels: z.strictObject({ hits: list(count), predicted: list(count), actual: list(count) }).nullable(),
  /** Σ of the generated texts' ROUGE-L F-measure against the answers; null when nothing was generated. */
  rouge_l_sum: metric,
  /** The task's own, summed over the examples. */
  metrics: z.record(z.string().max(200), metric),
});

/** Why a task came to nothing: the user has to fix something; it was cancelled; anything else. */
const ERROR_KINDS = ["input", "cancelled", "failed"] as const;

const preparedClient = z.strictObject({
  id: z.string(),
  n: positive,
  n_eval: count,
  label_counts: list(count),
  /** The values of the column that the partition goes by, or of the label, in what it trains on; the commonest first. */
  mix: list(z.strictObject({ value: z.string(), n: positive })),
  /** Of what it trains on. */
  n_tokens: count,
  n_truncated: count,
});

export const workerMessage = z.discriminatedUnion("type", [
  /** Over tcp, first: the connection is this worker's, as its proof will show. */
  z.strictObject({ ...session, type: z.literal("join"), worker_id: z.string().min(1).max(200) }),
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
    /** It can take tensors from shared memory. */
    shares_memory: z.boolean(),
  }),
  /** In place of hello: its device is not there, or cannot be used. Then it takes no tasks, and waits for its end. */
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
    /** Of all that the examples were made of: files, and files that they name. */
    data_sha256: z.string(),
    /** A JSON file with every file that decides this answer and `loaded`; see README.md. */
    sources: indexFile.nullable(),
    labels: list(z.string()),
    n_eval: count,
    /** Examples that were cut to max_length tokens. */
    n_truncated: count,
    /** What the user should know of the data, though it can be used. */
    remarks: list(z.string()),
    clients: list(preparedClient, 1),
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
    /** Weights that no adapter acts on, modules whose names differ in numbers alone as one. */
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
    /** Mean over the steps of the gradients' joint L2 norm before clipping; null where nothing is clipped. */
    grad_norm: metric,
    /** Of the device, at its peak during the fit; on a CPU, of the process. Null where that cannot be asked. */
    peak_memory_bytes: count.nullable(),
    tensors,
  }),
  z.strictObject({
    ...task,
    type: z.literal("evaluated"),
    /** Sums over the shard, in the order of the asked ranks. */
    tiers: list(tierSums),
    seconds: z.number(),
  }),
  z.strictObject({
    ...task,
    type: z.literal("failure"),
    error: z.strictObject({
      kind: z.enum(ERROR_KINDS),
      /** Of "failed", with the name of what was raised before it: `ValueError: …`. */
      message: text,
      traceback: text,
      /** Of kind "input": all that the user has to fix, each with the config's key where it is known. */
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
