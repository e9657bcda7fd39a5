import path from "node:path";
import type { z } from "zod";
import { isAssetReference, resolveAsset } from "./assets.ts";
import { clientsTold } from "./client-rules.ts";
import type { RunConfig } from "./schema.ts";
import type { dataSpec, fitSpec, loraSpec, modelSpec } from "../protocol/messages.ts";
import { cacheFolder } from "../installation.ts";

/*
 * The parts of a config that travel, in the wire's spelling. Everything a worker needs is in the message it
 * gets, so that a restarted worker knows as much as one that was there from the start.
 */

export function toModelSpec({ model }: Pick<RunConfig, "model">): z.infer<typeof modelSpec> {
  return {
    name_or_path: resolveReference(model.nameOrPath, "model.nameOrPath"),
    revision: model.revision ?? null,
    task: model.task,
    task_folder: model.task.includes(":") ? path.resolve(model.taskFolder ?? ".") : null,
    pooling: model.pooling ?? null,
    dtype: model.dtype,
    attention: model.attention ?? null,
    quantization: model.quantization ?? null,
    trust_remote_code: model.trustRemoteCode,
  };
}

/** Wire dtypes by their names in a config. */
export const WIRE_DTYPES = { f32: "F32", bf16: "BF16", f16: "F16", int8: "I8X256" } as const;

/** A name or path as a worker can use it: `prelort:NAME` becomes the path of what `prelort setup` fetched. */
export function resolveReference(nameOrPath: string, key: string): string {
  return isAssetReference(nameOrPath) ? resolveAsset(nameOrPath, cacheFolder(), key) : nameOrPath;
}

export function toLoraSpec({ lora }: RunConfig, tiers: readonly number[]): z.infer<typeof loraSpec> {
  return {
    r: lora.r,
    tiers: [...tiers],
    scale: lora.scale,
    target_modules: Array.isArray(lora.target_modules) ? [...lora.target_modules] : ((lora.target_modules as string | undefined) ?? null),
    modules_to_save: lora.modules_to_save ? [...lora.modules_to_save] : null,
    lora_dropout: lora.lora_dropout,
  };
}

export function toDataSpec({ data }: RunConfig): z.infer<typeof dataSpec> {
  const { partition } = data;
  return {
    path: resolveReference(data.path, "data.path"),
    subset: data.subset ?? null,
    split: data.split ?? null,
    eval_path: data.evalPath === undefined ? null : resolveReference(data.evalPath, "data.evalPath"),
    eval_split: data.evalSplit ?? null,
    text: data.text ?? null,
    label: data.label ?? null,
    prompt: data.prompt ?? null,
    answer: data.answer ?? null,
    messages: data.messages ?? null,
    image: data.image ?? null,
    chat: data.chat,
    max_length: data.maxLength,
    packing: data.packing,
    max_examples: data.maxExamples ?? null,
    eval_examples: data.evalExamples,
    client_eval_examples: data.clientEvalExamples,
    clients: clientsTold(data) ?? null,
    partition: {
      name: partition.name,
      by: partition.name === "files" ? "file" : "by" in partition ? partition.by : null,
      alpha: "alpha" in partition ? (partition.alpha ?? null) : null,
      min_examples: "minExamples" in partition ? partition.minExamples : 1,
      shares: partition.name === "size" && partition.shares ? [...partition.shares] : null,
      per_client: partition.name === "pathological" ? partition.perClient : null,
    },
  };
}

/** What a fit of this round is asked: the config's, and what the strategy wants of every fit. */
export function toFitSpec({ fit, rounds, strategy }: RunConfig, round: number): z.infer<typeof fitSpec> {
  const options = { ...strategy.aggregation.fitOptions, ...strategy.rankAssignment.fitOptions };
  const factor = fit.lrSchedule === "cosine" ? (1 + Math.cos((Math.PI * (round - 1)) / rounds)) / 2 : 1;
  return {
    objective: fit.objective,
    full_weight: fit.fullWeight,
    local_steps: fit.localSteps,
    batch_size: fit.batchSize,
    gradient_accumulation_steps: fit.gradientAccumulationSteps,
    batched_truncations: fit.batchedTruncations,
    gradient_checkpointing: fit.gradientCheckpointing,
    group_by_length: fit.groupByLength,
    lr: fit.lr * factor,
    head_lr: (fit.headLr ?? fit.lr) * factor,
    freeze_a: options.freezeA ?? false,
    tail_penalty: options.tailPenalty ?? 0,
  };
}
