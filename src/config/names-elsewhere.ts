/*
 * Options and their values by the names that other tools have for them (transformers and PEFT, TRL, Axolotl, LLaMA-Factory, Flower).
 * Config errors and the table in configs/README.md read them.
 */

interface Elsewhere {
  /** As written there. */
  readonly names: readonly string[];
  /** As written in a YAML config of prelort. */
  readonly here: string;
  /** What a reader would otherwise take to be the same. */
  readonly differs?: string;
}

export const OPTIONS_ELSEWHERE: readonly Elsewhere[] = [
  { names: ["model_name_or_path", "base_model"], here: "model.name_or_path" },
  { names: ["attn_implementation"], here: "model.attention" },
  { names: ["load_in_4bit", "load_in_8bit"], here: "model.quantization" },
  { names: ["bf16", "torch_dtype"], here: "model.dtype", differs: "Adapters stay f32" },
  {
    names: ["lora_r", "lora_rank", "rank"],
    here: "lora.r",
    differs: "The largest rank; strategy.rank_assignment gives each client its own",
  },
  { names: ["lora_alpha"], here: "lora.scale", differs: "lora_alpha is scale · r at every rank r" },
  { names: ["lora_target_modules", "lora_target"], here: "lora.target_modules" },
  { names: ["max_seq_length", "sequence_len", "cutoff_len"], here: "data.max_length" },
  { names: ["dataset_text_field"], here: "data.text", differs: "A template of columns" },
  {
    names: ["completion_only_loss", "train_on_inputs"],
    here: "data.prompt and data.answer",
    differs: "The loss is on the answer; with data.text on all of it",
  },
  { names: ["sample_packing"], here: "data.packing" },
  { names: ["num_clients", "num_supernodes", "num_partitions"], here: "data.clients" },
  { names: ["num_rounds", "num_server_rounds"], here: "rounds" },
  { names: ["fraction_fit", "fraction_train"], here: "strategy.selection: { name: random, fraction }" },
  {
    names: ["num_train_epochs", "num_epochs", "local_epochs"],
    here: "fit.epochs",
    differs: "Of each client in each round; unset, it is local_steps",
  },
  { names: ["max_steps"], here: "fit.local_steps", differs: "Of each client in each round" },
  { names: ["per_device_train_batch_size", "train_batch_size", "micro_batch_size"], here: "fit.batch_size" },
  { names: ["learning_rate"], here: "fit.lr" },
  { names: ["loraplus_lr_ratio"], here: "fit.lr_b_ratio" },
  {
    names: ["lr_scheduler_type", "lr_scheduler"],
    here: "fit.lr_schedule",
    differs: "Over the rounds, and constant unless set; there it is linear",
  },
  { names: ["lr_scheduler_kwargs", "min_lr_rate"], here: "fit.min_lr", differs: "A rate, not a share of lr" },
  {
    names: ["warmup_ratio"],
    here: "fit.warmup_rounds or fit.warmup_steps",
    differs: "Numbers, not shares: of the rounds, and of the steps of each fit",
  },
  { names: ["optim"], here: "fit.optimizer", differs: "New in each fit unless fit.client_state is keep" },
  { names: ["adam_beta1", "adam_beta2", "adam_epsilon", "adam_eps"], here: "fit.optimizer: { name: adamw, betas, eps }" },
  { names: ["weight_decay"], here: "fit.optimizer: { name: adamw, weight_decay }", differs: "0 unless set; in PyTorch's AdamW it is 0.01" },
  { names: ["max_grad_norm", "gradient_clip_val"], here: "fit.max_grad_norm", differs: "No clipping unless set; there it is 1" },
  { names: ["label_smoothing_factor"], here: "fit.label_smoothing" },
  { names: ["neftune_noise_alpha"], here: "fit.neftune_alpha" },
  { names: ["server_learning_rate", "server_lr", "eta"], here: "strategy.server_optimizer: { name, lr }" },
  { names: ["mu"], here: "fit.proximal_mu" },
  { names: ["eval_steps", "eval_strategy"], here: "evaluate.every", differs: "In rounds" },
  { names: ["per_device_eval_batch_size", "eval_batch_size"], here: "evaluate.batch_size" },
  { names: ["load_best_model_at_end", "metric_for_best_model", "greater_is_better"], here: "evaluate.best: { metric, at, mode }" },
  { names: ["early_stopping_patience", "early_stopping_threshold"], here: "stop_when: { patience, min_delta }" },
  { names: ["save_total_limit"], here: "keep_rounds" },
  { names: ["output_dir", "run_name"], here: "runs_dir and name" },
  { names: ["report_to"], here: "track" },
];

export const VALUES_ELSEWHERE: readonly Elsewhere[] = [
  { names: ["FedAvg"], here: "strategy.aggregation: { name: segment-wise }", differs: "With equal ranks it is the same" },
  { names: ["FedAvgM"], here: "strategy.server_optimizer: { name: momentum }" },
  { names: ["FedAdagrad"], here: "strategy.server_optimizer: { name: adagrad }" },
  { names: ["FedAdam"], here: "strategy.server_optimizer: { name: adam }" },
  { names: ["FedYogi"], here: "strategy.server_optimizer: { name: yogi }" },
  { names: ["FedProx"], here: "fit.proximal_mu" },
  { names: ["bfloat16"], here: "model.dtype: bf16" },
  { names: ["adamw_torch", "adamw_torch_fused", "adamw_hf"], here: "fit.optimizer: adamw" },
  { names: ["adamw_bnb_8bit", "paged_adamw_8bit"], here: "fit.optimizer: adamw_8bit" },
  { names: ["cosine_with_min_lr"], here: "fit.lr_schedule: cosine with fit.min_lr" },
  { names: ["constant_with_warmup"], here: "fit.lr_schedule: constant with fit.warmup_rounds" },
];

/** `fit.lr` for `learning_rate`, with what differs, to follow "here it is"; undefined for other words. */
export const optionHere = (name: string) => find(OPTIONS_ELSEWHERE, name);

/** `strategy.server_optimizer: { name: adam }` for `FedAdam`, however it is spelled. */
export const valueHere = (word: string) => find(VALUES_ELSEWHERE, word);

function find(table: readonly Elsewhere[], word: string): string | undefined {
  const found = table.find(({ names }) => names.some((name) => bare(name) === bare(word)));
  return found && (found.differs ? `${found.here}. ${found.differs}` : found.here);
}

const bare = (word: string) => word.toLowerCase().replaceAll(/[^a-z0-9]/g, "");

/** Both as a Markdown table. */
export function namesElsewhereTable(): string {
  const code = (text: string) => `\`${text}\``;
  const rows = [...OPTIONS_ELSEWHERE, ...VALUES_ELSEWHERE].map(({ names, here, differs = "" }) => {
    const ours = here.split(/( and | or | with )/).map((part, index) => (index % 2 === 0 ? code(part) : part));
    return `| ${names.map(code).join(", ")} | ${ours.join("")} | ${differs} |`;
  });
  return ["| there | here | what differs |", "|---|---|---|", ...rows].join("\n");
}
