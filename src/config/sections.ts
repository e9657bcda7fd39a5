import { z } from "zod";
import { best, keepRounds, stopWhen } from "./best-section.ts";
import { data } from "./data-section.ts";
import { fit } from "./fit-section.ts";
import { integer, positive, rank } from "./policy-specs.ts";
import { track } from "./track-section.ts";
import { seconds, workers } from "./workers-section.ts";

/*
 * All keys of a run except its policies, with their defaults. Keys are camelCase here and snake_case in YAML (`lora` keeps PEFT's own
 * spelling in both). Users read the descriptions in configs/README.md, in their editor's YAML completion, and on hovering over the
 * TypeScript types. `npm run format` regenerates the first two.
 */

const share = z.number().gt(0).max(1);
export const name = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/, "at most 100 letters, digits, '.', '_' and '-', beginning with a letter or digit");

export const BUILT_IN_TASKS = ["causal-lm", "seq2seq-lm", "sequence-classification", "image-classification"] as const;

/** A Python module's dotted name and a class in it. */
const ownTask = z.templateLiteral([z.string().regex(/[A-Za-z_][\w.]*/), ":", z.string().regex(/[A-Za-z_]\w*/)], {
  error: "a task of your own as module:Class",
});

export const model = z.strictObject({
  nameOrPath: z
    .string()
    .min(1)
    .describe(
      "Base model: a folder (in YAML relative to the config file), a Hugging Face name, or prelort:NAME for a model that prelort setup provides.",
    ),
  revision: z.string().min(1).optional().describe("Branch, tag or commit of a model on the Hugging Face hub."),
  task: z
    .union([z.enum(BUILT_IN_TASKS), ownTask])
    .describe(
      "What the model learns: a built-in task, or your own as module:Class, a Python class derived from prelort_worker.tasks.Task.",
    ),
  problemType: z
    .enum(["multi_label_classification", "regression"])
    .optional()
    .describe(
      "sequence-classification: what data.label holds, as transformers names it: any number of labels, or a number. Default: one label.",
    ),
  taskFolder: z
    .string()
    .min(1)
    .optional()
    .describe("Folder with the module of your own task. Default: the config file's folder, in TypeScript the working directory."),
  pooling: z
    .literal("mean")
    .optional()
    .describe(
      "sequence-classification: classify by the mean over the encoder's tokens, for checkpoints without a trained pooler, such as sentence embedders. Default: the architecture's own classifier.",
    ),
  dtype: z
    .enum(["f32", "bf16"])
    .default("f32")
    .describe("Type of the frozen weights. With bf16 the model computes under autocast; adapters and modules_to_save stay f32."),
  attention: z
    .string()
    .min(1)
    .optional()
    .describe("Attention implementation, as transformers names it: eager, sdpa, flash_attention_2. Default: transformers' choice."),
  quantization: z
    .enum(["8bit", "4bit"])
    .optional()
    .describe("Load the frozen weights in 8 or 4 bits. Needs CUDA, bitsandbytes and dtype bf16. Default: not quantized."),
  trustRemoteCode: z
    .boolean()
    .default(false)
    .describe("Run the Python code in the model's repository. Use it only for code you have read."),
});

export const lora = z.strictObject({
  r: rank.describe("R, the rank of the global adapter."),
  tiers: z
    .array(rank)
    .min(1)
    .readonly()
    .optional()
    .describe(
      "Ranks that clients may train at, ascending, ending with r. Default: the ranks that rank_assignment names, else the powers of two up to r.",
    ),
  scale: z.number().positive().default(2).describe("s in ΔW = s·B·A, the same at every rank. PEFT's lora_alpha is s·r."),
  target_modules: z
    .union([z.string().min(1), z.array(z.string().min(1)).min(1).readonly()])
    .optional()
    .describe(
      'Modules to adapt: a list of names as PEFT matches them, a regular expression over whole names, or "all-linear". Default: PEFT\'s choice for the architecture.',
    ),
  modules_to_save: z
    .array(z.string().min(1))
    .readonly()
    .optional()
    .describe("Modules trained in full and averaged over all clients. Default: the task's head, if it has one."),
  lora_dropout: z.number().min(0).lt(1).default(0).describe("Dropout probability before the adapters during training."),
  init_from: z
    .string()
    .min(1)
    .optional()
    .describe(
      "PEFT adapter or run, given by its folder, that the global adapter starts from; where B is zero, as in an initialisation, A is taken as it is, up to r. Default: A random, B zero.",
    ),
});

const evaluate = z.strictObject({
  every: positive.default(1).describe("Rounds between evaluations of the global adapter; the last round is always evaluated."),
  batchSize: positive.default(32).describe("Examples in a forward pass."),
  shardSize: positive.default(128).describe("Examples in one evaluation task. Part of the run's identity: it decides the order of sums."),
  maxNewTokens: integer
    .min(0)
    .default(0)
    .describe(
      "Language models: tokens to generate greedily for each held-out example, before the first round and after the last, to compute ROUGE-L; 0 generates nothing.",
    ),
  samples: integer
    .min(0)
    .default(0)
    .describe(
      "How many of these examples the record, the report, the page of prelort ui and the trackers show, at most shard_size: prompt, reference, and the answer of every tier before and after.",
    ),
  best: best
    .optional()
    .describe(
      "Marks the best of the evaluated rounds, whose adapters are saved beside the last, in the report, the page of prelort ui and the trackers; the evaluation before training is no candidate.",
    ),
});

/** When a round may close before all of its clients have reported. The journal records which clients counted; a resume keeps that decision. */
const closing = z.strictObject({
  quorum: share.optional().describe("Share of the round's clients that must report, or the run fails. Default: one client."),
  enough: share.optional().describe("The round closes once this share of its clients has reported. Default: waits for all."),
  deadline: seconds.optional().describe("Seconds from the round's start after which a quorum is enough. Default: none."),
});

/** How a fit sends values. Part of the run's identity, since it decides what is rounded. */
const wire = z.strictObject({
  update: z
    .enum(["f32", "bf16", "f16", "int8"])
    .default("f32")
    .describe("Type of the updates that clients send back, rounded at random without bias; int8 has one scale for every 256 values."),
  downlink: z
    .enum(["f32", "bf16"])
    .default("f32")
    .describe("Type of the adapter that clients start from, rounded to nearest. Evaluation always uses f32."),
});

/** How workers add up updates. It does not affect the results. */
const partialSums = z.strictObject({
  every: positive
    .max(10_000)
    .default(8)
    .describe("Clients per sum. A worker that dies loses the updates since its last sum; those clients train again."),
  encoding: z
    .enum(["packed", "f64"])
    .default("packed")
    .describe("Of a sum's integers: as few bytes as the largest needs (usually 5), or float64, which takes less computing."),
});

/** The keys that YAML and TypeScript have in common. */
export const common = {
  name: name.optional().describe("Name of the run, and of its folder in runs_dir. Default: the next free run-N."),
  runsDir: z.string().min(1).default("runs").describe("Folder for runs, relative to the working directory."),
  seed: integer.min(0).default(0).describe("Seed of everything random in the run."),
  rounds: positive.describe("Rounds to train."),
  model: model.describe("The base model and what it learns."),
  lora: lora.describe("The adapter. Keys are spelled as in PEFT's LoraConfig, in TypeScript too."),
  data: data.describe("The data, what an example is made of, and which client holds what."),
  fit: fit.prefault({}).describe("How a client trains in a round."),
  evaluate: evaluate.prefault({}).describe("How the global adapter is evaluated."),
  stopWhen: stopWhen
    .optional()
    .describe(
      "Ends the run before its last round; needs evaluate.best. The run is then finished like any other. Default: all rounds are trained.",
    ),
  keepRounds: keepRounds
    .default("all")
    .describe(
      "Rounds whose adapters stay in the run's folder: all; best: the best round and the last; a number: that many of the last, and the best if evaluate.best is set. Those of other rounds are removed as soon as a resume no longer needs them.",
    ),
  wire: wire.prefault({}).describe("Types of the tensors that a fit sends and receives, including modules_to_save."),
  closing: closing.prefault({}).describe("When a round may close before all of its clients have reported."),
  workers: workers
    .prefault({})
    .describe("The processes that train and evaluate. Only threads, and devices of several kinds, may change the results."),
  track: track
    .default([])
    .describe(
      "Trackers that the run's params, metrics and state are delivered to: tensorboard, mlflow, wandb, trackio, each a name or { name, …options }. They change nothing in the run, which does not wait for them. Each needs prelort setup --track NAME once.",
    ),
  recordUpdates: z
    .boolean()
    .default(false)
    .describe("Keep every client's update of every round, so that prelort verify can recompute each round's adapter."),
  partialSums: z
    .union([z.boolean(), partialSums])
    .default(false)
    .transform((value) => (value === true ? partialSums.parse({}) : value))
    .describe(
      "Workers add up the updates of the clients they train and send sums instead of every update: less traffic and less work for the controller, the same bytes. For aggregations that are weighted means of updates. false: every update is sent.",
    ),
  spoolBytes: integer
    .min(0)
    .default(4 * 2 ** 30)
    .describe("Bytes of disk for the updates of the current round, so that a resumed run need not train them again."),
};

export type CommonConfig = z.output<z.ZodObject<typeof common>>;
