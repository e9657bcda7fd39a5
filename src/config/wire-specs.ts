import path from "node:path";
import { z } from "zod";
import { toSnake } from "../base/case.ts";
import { cacheFolder } from "../installation.ts";
import type { dataSpec, fitSpec, loraSpec, modelSpec } from "../protocol/specs.ts";
import { isAssetReference, resolveAsset } from "./assets.ts";
import { clientsInConfig } from "./client-rules.ts";
import { data as dataSchema, partition as partitionSchema } from "./data-section.ts";
import { createRng, deriveSeed } from "../base/rng.ts";
import { RunFailedError } from "../errors.ts";
import { callPolicy, describeGiven, namePolicy } from "../strategy/call-policy.ts";
import type { FitOptions, FitOptionsOf, RankedClient } from "../strategy/strategy.ts";
import type { RunConfig } from "./schema.ts";
import { fit as fitSchema, lora as loraSchema, model as modelSchema } from "./sections.ts";

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

/** The options of a client's fit in this round: the config's, and those that the strategy sets. */
export function toFitSpec({ fit, rounds, seed, strategy }: RunConfig, round: number, client: RankedClient): z.infer<typeof fitSpec> {
  const { lr_schedule: schedule, ...sent } = toWire(keysOf(fitSchema), fit);
  const factor = schedule === "cosine" ? (1 + Math.cos((Math.PI * (round - 1)) / rounds)) / 2 : 1;
  const rng = (purpose: string) => createRng(deriveSeed(seed, "round", round, "client", client.id, "fit options", purpose));
  const asked = [
    requireFitOptions(namePolicy("aggregation", strategy.aggregation), strategy.aggregation, client, { round, rng }),
    requireFitOptions(namePolicy("rank assignment", strategy.rankAssignment), strategy.rankAssignment, client, { round, rng }),
  ];
  const options: FitOptions = Object.assign({}, ...asked);
  const { freezeA = false, tailPenalty = 0, lrA = 1, lrB = 1, components, fullWeight = sent.full_weight } = options;
  return {
    ...sent,
    full_weight: fullWeight,
    lr: fit.lr * factor * lrA,
    lr_b: fit.lr * factor * lrB,
    head_lr: (fit.headLr ?? fit.lr) * factor,
    freeze_a: freezeA,
    components: components ? requireComponents(components, client) : null,
    acting_tail: requireActingTail(options.actingTail, fit.actingTail, client),
    tail_penalty: tailPenalty,
  };
}

const weight = z.number().min(0);
const share = z.number().min(0).max(1);
const fitOptions = z.strictObject({
  fullWeight: share.optional(),
  actingTail: share.optional(),
  lrA: weight.optional(),
  lrB: weight.optional(),
  components: z.array(z.number()).optional(),
  freezeA: z.boolean().optional(),
  tailPenalty: weight.optional(),
});

/** What a policy, which may be the user's own code, asks of a client's fit. */
function requireFitOptions(
  subject: string,
  policy: { readonly fitOptions?: FitOptions | FitOptionsOf },
  client: RankedClient,
  context: Parameters<FitOptionsOf>[1],
): FitOptions {
  const { fitOptions: asked = {} } = policy;
  const called = `${subject}, asked for the fit options of client ${client.id},`;
  const given: unknown = typeof asked === "function" ? callPolicy(called, () => asked.call(policy, client, context)) : asked;
  const { data, error } = given instanceof Promise ? {} : fitOptions.safeParse(given);
  if (data) return data as FitOptions;
  const [issue] = error?.issues ?? [];
  const at = issue && issue.path.length > 0 ? `${issue.path.join(".")}: ` : "";
  throw new RunFailedError(`${called} returned ${describeGiven(given)}; expected fit options: ${at}${issue?.message ?? "an object"}`);
}

/** The share of steps in which what is merged acts. Without a tail, that is what an aggregation has merged: it always acts. */
function requireActingTail(asked: number | undefined, inConfig: number, { id }: RankedClient): number {
  if (inConfig > 0) return asked ?? inConfig;
  if (asked === undefined) return 1;
  throw new RunFailedError(
    `the strategy's fit options for client ${id}: actingTail needs fit.acting_tail above 0 in the config, with which clients receive the tail`,
  );
}

function requireComponents(components: readonly number[], { id, r }: RankedClient): number[] {
  const sorted = [...new Set(components)].toSorted((a, b) => a - b);
  const isRight = sorted.length > 0 && sorted.every((each) => Number.isInteger(each) && each >= 0 && each < r);
  if (isRight) return sorted;
  throw new RunFailedError(
    `the strategy's fit options for client ${id}: components must be whole numbers from 0 to ${r - 1}, its rank being ${r}, and at least one; got [${components.join(", ")}]`,
  );
}

/** Wire dtypes by their names in a config. */
export const WIRE_DTYPES = { f32: "F32", bf16: "BF16", f16: "F16", int8: "I8X256" } as const;

/** A name or path that a worker can use: `prelort:NAME` becomes a path in the cache folder. */
export function resolveReference(nameOrPath: string, key: string): string {
  return isAssetReference(nameOrPath) ? resolveAsset(nameOrPath, cacheFolder(), key) : nameOrPath;
}

/** A map with these keys in snake_case, and null for those that the section lacks. */
function toWire<T extends object>(keys: readonly string[], section: T): Sent<T> {
  const values = section as Readonly<Record<string, unknown>>;
  return Object.fromEntries(keys.map((key) => [toSnake(key), values[key] ?? null])) as Sent<T>;
}

function keysOf({ shape }: { readonly shape: object }): string[] {
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
