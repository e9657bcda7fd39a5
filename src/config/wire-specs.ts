import path from "node:path";
import type { z } from "zod";
import { toSnake } from "../base/case.ts";
import { cacheFolder } from "../installation.ts";
import type { dataSpec, loraSpec, modelSpec } from "../protocol/specs.ts";
import { isAssetReference, resolveAsset } from "./assets.ts";
import { clientsInConfig } from "./client-rules.ts";
import { data as dataSchema, partition as partitionSchema } from "./data-section.ts";
import type { RunConfig } from "./schema.ts";
import { lora as loraSchema, model as modelSchema } from "./sections.ts";

/*
 * The sections of a config that are sent to workers, spelled as on the wire. Sections are sent whole, except for keys that are
 * excluded by name or replaced. Each message has everything that a worker needs, so that a restarted worker knows as much as one
 * that has been there from the start.
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
    clients: clientsInConfig(data) ?? null,
    partition: { ...partition, by: partition.name === "files" ? "file" : partition.by, min_examples: partition.min_examples ?? 1 },
  };
}

/** Wire dtypes by their names in a config. */
export const WIRE_DTYPES = { f32: "F32", bf16: "BF16", f16: "F16", int8: "I8X256" } as const;

/** A name or path that a worker can use: `prelort:NAME` becomes a path in the cache folder. */
export function resolveReference(nameOrPath: string, key: string): string {
  return isAssetReference(nameOrPath) ? resolveAsset(nameOrPath, cacheFolder(), key) : nameOrPath;
}

/** A map with these keys in snake_case, and null for those that the section lacks. */
export function toWire<T extends object>(keys: readonly string[], section: T): Sent<T> {
  const values = section as Readonly<Record<string, unknown>>;
  return Object.fromEntries(keys.map((key) => [toSnake(key), values[key] ?? null])) as Sent<T>;
}

export function keysOf({ shape }: { readonly shape: object }): string[] {
  return Object.keys(shape);
}

/** For a union of maps, the keys of all of them; a key that one may lack may be null. */
type Sent<T> = { [K in KeyOf<T> as SnakeCase<K>]: OrNull<ValueOf<T, K>> };
type KeyOf<T> = T extends unknown ? keyof T & string : never;
type ValueOf<T, K> = T extends unknown ? (K extends keyof T ? T[K] : undefined) : never;
type OrNull<V> = V extends undefined ? null : V extends readonly (infer Item)[] ? Item[] : V;
type SnakeCase<K extends string> = K extends `${infer Letter}${infer Rest}`
  ? `${Letter extends Lowercase<Letter> ? Letter : `_${Lowercase<Letter>}`}${SnakeCase<Rest>}`
  : K;
