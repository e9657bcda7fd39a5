import path from "node:path";
import type { z } from "zod";
import { toSnake } from "../base/case.ts";
import { cacheFolder } from "../installation.ts";
import type { dataSpec, fitSpec, loraSpec, modelSpec } from "../protocol/specs.ts";
import { isAssetReference, resolveAsset } from "./assets.ts";
import { clientsTold } from "./client-rules.ts";
import { data as dataSchema, partition as partitionSchema } from "./data-section.ts";
import type { RunConfig } from "./schema.ts";
import { fit as fitSchema, lora as loraSchema, model as modelSchema } from "./sections.ts";

/*
 * The sections of a config that travel, as the wire spells them. A section travels whole: what does not is left out by name,
 * and what travels changed stands beside it. Everything a worker needs is in the message it gets, so that a restarted
 * worker knows as much as one that was there from the start.
 */

export function toModelSpec({ model }: Pick<RunConfig, "model">): z.infer<typeof modelSpec> {
  return {
    ...toWire(keysOf(modelSchema), model),
    name_or_path: resolveReference(model.nameOrPath, "model.nameOrPath"),
    task_folder: model.task.includes(":") ? path.resolve(model.taskFolder ?? ".") : null,
  };
}

export function toLoraSpec({ lora }: RunConfig, tiers: readonly number[]): z.infer<typeof loraSpec> {
  const { init_from: _, ...sent } = toWire(keysOf(loraSchema), lora);
  return { ...sent, tiers: [...tiers] };
}

export function toDataSpec({ data }: RunConfig): z.infer<typeof dataSpec> {
  const { profiles: _, ...sent } = toWire(keysOf(dataSchema), data);
  const partition = toWire(partitionSchema.options.flatMap(keysOf), data.partition);
  return {
    ...sent,
    path: resolveReference(data.path, "data.path"),
    eval_path: data.evalPath === undefined ? null : resolveReference(data.evalPath, "data.evalPath"),
    clients: clientsTold(data) ?? null,
    partition: { ...partition, by: partition.name === "files" ? "file" : partition.by, min_examples: partition.min_examples ?? 1 },
  };
}

/** What a fit of this round is asked: the config's, and what the strategy wants of every fit. */
export function toFitSpec({ fit, rounds, strategy }: RunConfig, round: number): z.infer<typeof fitSpec> {
  const { lr_schedule: schedule, ...sent } = toWire(keysOf(fitSchema), fit);
  const factor = schedule === "cosine" ? (1 + Math.cos((Math.PI * (round - 1)) / rounds)) / 2 : 1;
  const { freezeA = false, tailPenalty = 0 } = { ...strategy.aggregation.fitOptions, ...strategy.rankAssignment.fitOptions };
  return { ...sent, lr: fit.lr * factor, head_lr: (fit.headLr ?? fit.lr) * factor, freeze_a: freezeA, tail_penalty: tailPenalty };
}

/** Wire dtypes by their names in a config. */
export const WIRE_DTYPES = { f32: "F32", bf16: "BF16", f16: "F16", int8: "I8X256" } as const;

/** A name or path as a worker can use it: `prelort:NAME` becomes the path of what `prelort setup` fetched. */
export function resolveReference(nameOrPath: string, key: string): string {
  return isAssetReference(nameOrPath) ? resolveAsset(nameOrPath, cacheFolder(), key) : nameOrPath;
}

/** A map with these keys in snake_case; what it does not have is null. */
function toWire<T extends object>(keys: readonly string[], section: T): Sent<T> {
  const values = section as Readonly<Record<string, unknown>>;
  return Object.fromEntries(keys.map((key) => [toSnake(key), values[key] ?? null])) as Sent<T>;
}

function keysOf({ shape }: { readonly shape: object }): string[] {
  return Object.keys(shape);
}

/** Of a choice between maps the keys of all; what one may lack may be null. */
type Sent<T> = { [K in KeyOf<T> as SnakeCase<K>]: OrNull<ValueOf<T, K>> };
type KeyOf<T> = T extends unknown ? keyof T & string : never;
type ValueOf<T, K> = T extends unknown ? (K extends keyof T ? T[K] : undefined) : never;
type OrNull<V> = V extends undefined ? null : V extends readonly (infer Item)[] ? Item[] : V;
type SnakeCase<K extends string> = K extends `${infer Letter}${infer Rest}`
  ? `${Letter extends Lowercase<Letter> ? Letter : `_${Lowercase<Letter>}`}${SnakeCase<Rest>}`
  : K;
