import { z } from "zod";

/** Raised by one whenever a message changes its meaning; controller and worker must agree. */
export const PROTOCOL_VERSION = 6;
/** Bytes of tensor data in one `chunk` message, at most. */
export const CHUNK_BYTES = 4 * 1024 * 1024;
/**
 * Bytes of tensor data that may be under way in one direction of one connection before credit comes back: what each
 * worker may cost in memory beside the tensors themselves. Four chunks keep the connection busy.
 */
export const CREDIT_BYTES = 16 * 1024 * 1024;
/** A larger frame is refused before it is parsed. */
export const MAX_FRAME_BYTES = CHUNK_BYTES + 1024 * 1024;

const count = z.number().int().nonnegative();
const positive = z.number().int().positive();
const text = z.string().max(1_000_000);
/** zod refuses NaN and ±Infinity: a metric that is not finite travels as null. */
const metric = z.number().nullable();

/**
 * An array that is refused at its first wrong item. zod by itself reports every wrong item: those of one frame could fill the
 * memory. For every message a worker sends, since a frame may hold millions. `item` in its metadata is the schema of its items.
 */
const list = <T>(item: z.ZodType<T>, least = 0, most = Infinity) =>
  z
    .array(z.unknown())
    .min(least)
    .max(most)
    .meta({ item })
    .transform((values, context) => {
      const items: T[] = [];
      for (const [place, value] of values.entries()) {
        const { data, error } = item.safeParse(value);
        if (error) {
          for (const { path, message } of error.issues.slice(0, 1)) context.addIssue({ code: "custom", path: [place, ...path], message });
          return z.NEVER;
        }
        items.push(data);
      }
      return items;
    });

/** `merged` [n, width]: components that are part of the base model for this task. */
const tensorName = z.enum(["rows", "dense", "merged"]);
/** As safetensors spells them, but for `I8X256`: see README.md. */
const dtype = z.enum(["F32", "BF16", "F16", "I8X256"]);

/**
 * A tensor: raw little-endian data of so many bytes. It follows its header in `chunk` messages and has a checksum, or
 * lies in memory that the sender shares: the number of a descriptor of its process, and where in that file it begins.
 */
export const tensorDescriptor = z
  .strictObject({
    name: tensorName,
    dtype,
    shape: list(count, 1, 2),
    bytes: count,
    crc32: count.max(0xffffffff).nullable(),
    shared: z.strictObject({ fd: count, offset: count }).nullable(),
  })
  .refine(({ crc32, shared }) => (crc32 === null) !== (shared === null), "has either a crc32 or shared memory");
export type TensorDescriptor = z.infer<typeof tensorDescriptor>;

const session = { protocol_version: z.literal(PROTOCOL_VERSION) };
/** `task_id` and `attempt` are unique per try, so late and duplicated parts can be told and dropped. */
const task = { ...session, task_id: z.string().min(1).max(200), attempt: positive };
const tensors = list(tensorDescriptor, 0, 3);

const chunk = z.strictObject({
  ...task,
  type: z.literal("chunk"),
  tensor: tensorName,
  offset: count,
  data: z.custom<Uint8Array>((value) => value instanceof Uint8Array, "must be bytes").meta({ type: "bytes" }),
});
const end = z.strictObject({ ...task, type: z.literal("end") });
/** Gives back that many bytes of the peer's sending window. */
const credit = z.strictObject({ ...session, type: z.literal("credit"), bytes: positive });

export const modelSpec = z.strictObject({
  name_or_path: z.string(),
  /** Of a name on the hub: a branch, tag or commit. */
  revision: z.string().nullable(),
  /** A built-in task, or `module:Class`, */
  task: z.string(),
  /** whose module is looked for there first. */
  task_folder: z.string().nullable(),
  pooling: z.literal("mean").nullable(),
  /** Of the frozen weights, and of the arithmetic on them. */
  dtype: z.enum(["f32", "bf16"]),
  /** As transformers names it. */
  attention: z.string().nullable(),
  quantization: z.enum(["8bit", "4bit"]).nullable(),
  /** Run the model repository's own code. */
  trust_remote_code: z.boolean(),
});
export const loraSpec = z.strictObject({
  r: positive,
  tiers: z.array(positive),
  scale: z.number(),
  /** PEFT's own choice for the architecture, "all-linear", a regular expression, or names. */
  target_modules: z.union([z.string(), z.array(z.string())]).nullable(),
  /** The task's heads where none are named. */
  modules_to_save: z.array(z.string()).nullable(),
  lora_dropout: z.number(),
});
export const dataSpec = z.strictObject({
  path: z.string(),
  /** Of a Hugging Face dataset: its configuration, and its split. */
  subset: z.string().nullable(),
  split: z.string().nullable(),
  /** Of the examples that are held out from all, where they do not come from `path` and `split`. */
  eval_path: z.string().nullable(),
  eval_split: z.string().nullable(),
  text: z.string().nullable(),
  label: z.string().nullable(),
  prompt: z.string().nullable(),
  answer: z.string().nullable(),
  /** Columns of conversations and of pictures. */
  messages: z.string().nullable(),
  image: z.string().nullable(),
  /** Prompt and answer as the model's chat template writes a user's and an assistant's turn. */
  chat: z.boolean(),
  max_length: positive,
  packing: z.boolean(),
  max_examples: positive.nullable(),
  eval_examples: count,
  /** Of each client's own examples, held out from its training. */
  client_eval_examples: count,
  /** Null where the partition tells. */
  clients: positive.nullable(),
  partition: z.strictObject({
    name: z.enum(["iid", "dirichlet", "size", "pathological", "value", "files"]),
    by: z.string().nullable(),
    alpha: z.number().nullable(),
    min_examples: positive,
    shares: z.array(z.number()).nullable(),
    per_client: positive.nullable(),
  }),
});
export const fitSpec = z.strictObject({
  objective: z.enum(["none", "sum", "sampled", "stratified"]),
  full_weight: z.number().nullable(),
  local_steps: count,
  batch_size: positive,
  gradient_accumulation_steps: positive,
  batched_truncations: z.boolean(),
  gradient_checkpointing: z.boolean(),
  group_by_length: z.boolean(),
  lr: z.number(),
  head_lr: z.number(),
  /** A stays as it was received. */
  freeze_a: z.boolean(),
  /** λ of a penalty λ·Σ ‖B[:, ρ:]‖·‖A[ρ:, :]‖ over the modules, ρ the tier below the client's rank. */
  tail_penalty: z.number(),
});

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
export type WorkerDevice = z.infer<typeof device>;

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
      kind: z.string().max(200),
      message: text,
      traceback: text,
      /** Of an InputError: all that the user has to mend, each with the config's key where it is known. */
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
