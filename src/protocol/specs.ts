import { z } from "zod";
import { count, positive } from "./fields.ts";

/* The parts of the config that are sent to workers. */

export const modelSpec = z.strictObject({
  name_or_path: z.string(),
  /** For a name on the hub: a branch, tag or commit. */
  revision: z.string().nullable(),
  /** A built-in task, or `module:Class`. */
  task: z.string(),
  /** Where the module is looked up first. */
  task_folder: z.string().nullable(),
  pooling: z.literal("mean").nullable(),
  /** The dtype of the frozen weights and of the arithmetic on them. */
  dtype: z.enum(["f32", "bf16"]),
  /** In transformers' terms. */
  attention: z.string().nullable(),
  quantization: z.enum(["8bit", "4bit"]).nullable(),
  /** Run the model repository's own code. */
  trust_remote_code: z.boolean(),
  /** As transformers names what a classifier's head predicts; null: one label. */
  problem_type: z.enum(["multi_label_classification", "regression"]).nullable(),
});
export const loraSpec = z.strictObject({
  r: positive,
  tiers: z.array(positive),
  scale: z.number(),
  /** PEFT's own choice for the architecture, "all-linear", a regular expression, or names. */
  target_modules: z.union([z.string(), z.array(z.string())]).nullable(),
  /** Null: the task's heads. */
  modules_to_save: z.array(z.string()).nullable(),
  lora_dropout: z.number(),
});
export const dataSpec = z.strictObject({
  path: z.string(),
  /** For a Hugging Face dataset: its configuration and split. */
  subset: z.string().nullable(),
  split: z.string().nullable(),
  /** Source of the examples held out from all clients, unless they come from `path` and `split`. */
  eval_path: z.string().nullable(),
  eval_split: z.string().nullable(),
  text: z.string().nullable(),
  label: z.string().nullable(),
  prompt: z.string().nullable(),
  answer: z.string().nullable(),
  /** Columns with conversations and images. */
  messages: z.string().nullable(),
  image: z.string().nullable(),
  /** Format prompt and answer as a user's and an assistant's turn with the model's chat template. */
  chat: z.boolean(),
  max_length: positive,
  packing: z.boolean(),
  max_examples: positive.nullable(),
  eval_examples: count,
  /** How many of each client's own examples are held out from its training. */
  client_eval_examples: count,
  /** Null if the partition determines it. */
  clients: positive.nullable(),
  partition: z.strictObject({
    name: z.enum(["iid", "dirichlet", "size", "pathological", "value", "files"]),
    by: z.string().nullable(),
    alpha: z.number().nullable(),
    min_examples: positive,
    shares: z.array(z.number()).nullable(),
    per_client: positive.nullable(),
  }),
  /** Between the labels of one cell of text; null: ";". */
  label_separator: z.string().nullable(),
});
const weight_decay = z.number();
const adam = { betas: z.array(z.number()).length(2), eps: z.number(), weight_decay };
/** The optimizer of a fit. */
export const optimizerSpec = z.discriminatedUnion("name", [
  z.strictObject({ name: z.enum(["adamw", "adamw_8bit"]), ...adam }),
  z.strictObject({ name: z.literal("sgd"), momentum: z.number(), nesterov: z.boolean(), weight_decay }),
  z.strictObject({ name: z.literal("adafactor"), weight_decay }),
]);
export const fitSpec = z.strictObject({
  objective: z.enum(["none", "sum", "sampled", "stratified"]),
  full_weight: z.number().nullable(),
  local_steps: count,
  batch_size: positive,
  gradient_accumulation_steps: positive,
  gradient_checkpointing: z.boolean(),
  group_by_length: z.boolean(),
  optimizer: optimizerSpec,
  /** `keep`: the optimizer goes on from the task's `state`, if it has one, and its own comes back with the update. */
  client_state: z.enum(["new", "keep"]),
  /** Of A, and of B. */
  lr: z.number(),
  lr_b: z.number(),
  head_lr: z.number(),
  /** First steps over which the rates rise in equal steps to these. */
  warmup_steps: count,
  /** Share of a target that is spread over all classes. */
  label_smoothing: z.number(),
  /** Of NEFTune's noise on token embeddings; 0 for none. */
  neftune_alpha: z.number(),
  /** μ of the penalty μ/2 · ‖w − w_received‖² over the trained parameters. */
  proximal_mu: z.number(),
  /** Largest joint L2 norm of a step's gradients over all trained parameters; 0 disables clipping. */
  max_grad_norm: z.number(),
  /** Do not train A. */
  freeze_a: z.boolean(),
  /** Components that train, ascending from 0; the others of the client's rank only act. null: all. */
  components: z.array(count).nullable(),
  /** Share of the steps in which what is merged acts. */
  acting_tail: z.number(),
  /** λ of a penalty λ·Σ ‖B[:, ρ:]‖·‖A[ρ:, :]‖ over the modules, ρ the tier below the client's rank. */
  tail_penalty: z.number(),
});
