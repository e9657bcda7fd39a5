import { z } from "zod";
import { integer, positive, rank } from "./policy-specs.ts";

/*
 * Everything of a run but its policies, with every default. Keys are camelCase here and snake_case in YAML (`lora`
 * keeps PEFT's own spelling in both).
 */

const share = z.number().gt(0).max(1);
const seconds = z
  .number()
  .positive()
  .max(7 * 24 * 3600);
export const name = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/, "made of letters, digits, '.', '_' and '-', at most 100");

export const BUILT_IN_TASKS = ["causal-lm", "seq2seq-lm", "sequence-classification", "image-classification"] as const;

/** Of Python: a module's dotted name and a class in it. */
const ownTask = z.templateLiteral([z.string().regex(/[A-Za-z_][\w.]*/), ":", z.string().regex(/[A-Za-z_]\w*/)], {
  error: "a task of your own as module:Class",
});

const model = z.strictObject({
  /** Hugging Face name, a folder, or `prelort:NAME` for a model that `prelort setup` fetches. */
  nameOrPath: z.string().min(1),
  /** Of a name on the hub: a branch, a tag or a commit. */
  revision: z.string().min(1).optional(),
  /** A built-in task, or one's own as `module:Class`, a prelort_worker.tasks.Task in Python. */
  task: z.union([z.enum(BUILT_IN_TASKS), ownTask]),
  /** Folder in which one's own task is looked for; that of the config file, or the working directory, by default. */
  taskFolder: z.string().min(1).optional(),
  /**
   * "mean" classifies by the mean over the encoder's tokens, for a checkpoint whose own pooler was not trained, as
   * sentence embedders have it; by default the architecture's own classifier.
   */
  pooling: z.literal("mean").optional(),
  /** Of the frozen weights. With bf16 the model computes under autocast; adapters and modules_to_save stay f32. */
  dtype: z.enum(["f32", "bf16"]).default("f32"),
  /** How attention is computed, as transformers names it: eager, sdpa, flash_attention_2; by default as transformers decides. */
  attention: z.string().min(1).optional(),
  /** Frozen weights in 8 or 4 bits (bitsandbytes; CUDA only). */
  quantization: z.enum(["8bit", "4bit"]).optional(),
  /** Run Python code that comes with the model. Only where you have read it. */
  trustRemoteCode: z.boolean().default(false),
});

const lora = z.strictObject({
  /** R, the rank of the global adapter. */
  r: rank,
  /** Ranks that clients may train at; by default those that `rankAssignment` lists, else the powers of two up to r. */
  tiers: z.array(rank).min(1).readonly().optional(),
  /** s in ΔW = s·B·A, one value at every rank (PEFT's lora_alpha is s·r). */
  scale: z.number().positive().default(2),
  /** Names as PEFT matches them, a regular expression over whole names, or "all-linear"; PEFT's own choice by default. */
  target_modules: z.union([z.string().min(1), z.array(z.string().min(1)).min(1).readonly()]).optional(),
  /** Modules trained in full and averaged over all clients; a classifier's head by default. */
  modules_to_save: z.array(z.string().min(1)).readonly().optional(),
  lora_dropout: z.number().min(0).lt(1).default(0),
  /** A PEFT adapter's folder, or a run's directory, whose adapter the global one starts from; by default A at random, B = 0. */
  init_from: z.string().min(1).optional(),
});

/** Every client holds at least that many examples, of which clientEvalExamples are held out. */
const minExamples = positive.default(10);

const partition = z.discriminatedUnion("name", [
  z.strictObject({ name: z.literal("iid") }),
  z.strictObject({
    name: z.literal("dirichlet"),
    /** Column whose values are spread unevenly over the clients. */
    by: z.string().min(1),
    alpha: z.number().positive(),
    minExamples,
  }),
  z.strictObject({
    name: z.literal("size"),
    /** Sizes drawn from Dirichlet(alpha); or `shares`. */
    alpha: z.number().positive().optional(),
    /** The clients' relative sizes, one each; `clients` may then be left out. */
    shares: z.array(z.number().positive()).min(1).readonly().optional(),
    minExamples,
  }),
  z.strictObject({
    name: z.literal("pathological"),
    /** Column of whose values each client holds `perClient`, every value as many clients as any other. */
    by: z.string().min(1),
    perClient: positive,
  }),
  z.strictObject({
    name: z.literal("value"),
    /** Column whose values are the clients, the commonest first: all, or `clients` of them and examples of others are left out. */
    by: z.string().min(1),
  }),
  /** The files of the folder `path` are the clients, in the order of their names: all, or the first `clients` of them. */
  z.strictObject({ name: z.literal("files") }),
]);

const profile = z.strictObject({
  memoryGiB: z.number().positive().optional(),
  /** Local steps a second. */
  speed: z.number().positive().optional(),
});

const data = z.strictObject({
  /**
   * JSONL, JSON, CSV, TSV or Parquet; a folder of such files, of texts or of pictures; a Hugging Face dataset by folder or
   * name; or `prelort:NAME` for data that `prelort setup` fetches.
   */
  path: z.string().min(1),
  /** Of a Hugging Face dataset: its configuration, and its split ("train" by default). */
  subset: z.string().min(1).optional(),
  split: z.string().min(1).optional(),
  /** Where the examples come from that are held out from all; by default they are drawn from `path`. */
  evalPath: z.string().min(1).optional(),
  /** Their split, of `evalPath`, or of `path`. */
  evalSplit: z.string().min(1).optional(),
  /** The text to classify, or in place of prompt and answer one that a causal-lm learns whole: a template such as "{gloss}". */
  text: z.string().min(1).optional(),
  /** Classification: the column that holds the label. */
  label: z.string().min(1).optional(),
  /** image-classification: the column that holds the picture; "image" by default, as folders of pictures have it. */
  image: z.string().min(1).optional(),
  /** Language models: template of the prompt, which the loss leaves out. */
  prompt: z.string().optional(),
  /** Language models: template of the answer, which the loss is taken over. */
  answer: z.string().min(1).optional(),
  /** causal-lm: the column that holds a conversation, a list of { role, content } or { from, value }; the loss is on the assistant's turns. */
  messages: z.string().min(1).optional(),
  /** causal-lm: write prompt and answer as turns of the model's own chat template. */
  chat: z.boolean().default(false),
  /** Tokens; longer examples are cut, and the cuts reported. */
  maxLength: positive.default(256),
  /** causal-lm: several of a client's examples in a row of maxLength tokens, each seeing itself alone, instead of padding. */
  packing: z.boolean().default(false),
  /** Training examples drawn from the data; all by default. */
  maxExamples: positive.optional(),
  /** Held-out examples on which the global adapter is evaluated; of `evalPath` so many at most. */
  evalExamples: positive.default(256),
  /** Of each client's own examples, held out for evaluating the adapter at the client's own rank. */
  clientEvalExamples: integer.min(0).default(0),
  /** Needed, unless the partition tells: value, files, and size with shares. */
  clients: positive.optional(),
  /** Declared devices of the clients, one each, for policies that decide by them. */
  profiles: z.array(profile).readonly().optional(),
  partition: partition.default({ name: "iid" }),
});

const fit = z.strictObject({
  /** Which truncations of the adapter a step trains. */
  objective: z.enum(["none", "sum", "sampled", "stratified"]).default("stratified"),
  /** λ of the client's own rank, the rest is spread evenly over the lower tiers; null spreads evenly over all. */
  fullWeight: z.number().gt(0).max(1).nullable().default(0.9),
  localSteps: integer.min(0).default(10),
  /** Examples of a forward pass. */
  batchSize: positive.default(16),
  /** Batches of a step: its loss is the mean over all their tokens. */
  gradientAccumulationSteps: positive.default(1),
  /** Run the truncations of a step of sum as one larger batch. */
  batchedTruncations: z.boolean().default(false),
  /** Compute activations again on the way back instead of keeping them: less memory, more time. */
  gradientCheckpointing: z.boolean().default(false),
  /** Batches of examples of like length, so that little is padding. */
  groupByLength: z.boolean().default(false),
  lr: z.number().positive().default(3e-4),
  /** Learning rate of modules_to_save; lr by default. */
  headLr: z.number().positive().optional(),
  /** Over the server rounds: "cosine" ends near zero. */
  lrSchedule: z.enum(["constant", "cosine"]).default("constant"),
});

const evaluate = z.strictObject({
  /** Evaluate the global adapter every that many rounds, and after the last. */
  every: positive.default(1),
  batchSize: positive.default(32),
  /** Examples of one evaluation task. Fixed, since it decides the order of sums. */
  shardSize: positive.default(64),
  /** causal-lm: before the first round and after the last, tokens to generate greedily for each held-out example, for ROUGE-L; 0 for none. */
  maxNewTokens: integer.min(0).default(0),
});

/** When a round ends before all of its clients have reported. Who counted is journalled, and is not decided anew by a resume. */
const closing = z.strictObject({
  /** Share of the round's clients that must report, or the run fails; at least one client. */
  quorum: share.optional(),
  /** Share of them that is enough: the round closes with it. Select more clients than are needed, and the slowest are not waited for. */
  enough: share.optional(),
  /** From then on a quorum is enough. */
  deadline: seconds.optional(),
});

/** How values travel in a fit. A fixed value: it decides what is rounded. */
const wire = z.strictObject({
  /** What clients send back of their change, rounded at random without bias; int8 has one scale for every 256 values. */
  update: z.enum(["f32", "bf16", "f16", "int8"]).default("f32"),
  /** What clients start from, rounded to nearest. The change they send is against what they received. */
  downlink: z.enum(["f32", "bf16"]).default("f32"),
});

type Device = "cpu" | "mps" | `cuda:${number}`;
const device = z.custom<Device>((value) => typeof value === "string" && /^(cpu|mps|cuda:\d+)$/.test(value), {
  error: ({ input }) => `must be cpu, mps or cuda:N, got ${JSON.stringify(input)}`,
  abort: false,
});

const workers = z.strictObject({
  /** By default `slotsPerDevice` on each device. */
  count: positive.max(256).optional(),
  /** Workers that share a device, 1 by default; instead of `count`. Never chosen from free memory. */
  slotsPerDevice: positive.max(64).optional(),
  /** "auto" takes every CUDA device, else mps, else the CPU; worker i is given device i modulo their number. */
  devices: z.union([z.literal("auto"), z.array(device).min(1)]).default("auto"),
  /** Torch threads of each worker. Part of the run's identity: it changes the order of sums. */
  threads: positive.default(1),
  /** Python interpreter; by default the environment that `prelort setup` made. */
  python: z.string().min(1).optional(),
  transport: z.enum(["ipc", "tcp"]).default("ipc"),
  /** How often a task that failed is tried again, on another worker where there is one. */
  retries: integer.min(0).max(100).default(2),
  startTimeout: seconds.default(180),
  /** A worker not heard of for that long is killed. */
  beatTimeout: seconds.default(30),
  /** A task whose worker reports no progress for that long is taken from it, and the worker killed. */
  taskTimeout: seconds.default(600),
});

/** The keys that YAML and TypeScript have in common. */
export const common = {
  /** Folder of the run under `runsDir`; the next free `run-N` by default. */
  name: name.optional(),
  runsDir: z.string().min(1).default("runs"),
  seed: integer.min(0).default(0),
  rounds: positive,
  model,
  lora,
  data,
  fit: fit.prefault({}),
  evaluate: evaluate.prefault({}),
  wire: wire.prefault({}),
  closing: closing.prefault({}),
  workers: workers.prefault({}),
  /** Keep every client's update of every round, so that `prelort verify` can form each round's adapter anew. */
  recordUpdates: z.boolean().default(false),
  /** Disk for the updates of the round that is under way, so that a run that is resumed need not train them again. */
  spoolBytes: integer.min(0).default(4 * 2 ** 30),
};

export type CommonConfig = z.output<z.ZodObject<typeof common>>;
