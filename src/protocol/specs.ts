import { z } from "zod";
import { count, positive } from "./fields.ts";

/* What a worker is told of the config: its parts that travel. */

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
  gradient_checkpointing: z.boolean(),
  group_by_length: z.boolean(),
  lr: z.number(),
  head_lr: z.number(),
  /** Largest joint L2 norm of a step's gradients, over all trained parameters; 0 clips nothing. */
  max_grad_norm: z.number(),
  /** A stays as it was received. */
  freeze_a: z.boolean(),
  /** λ of a penalty λ·Σ ‖B[:, ρ:]‖·‖A[ρ:, :]‖ over the modules, ρ the tier below the client's rank. */
  tail_penalty: z.number(),
});
