import { createHash } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { snakeKeys, toSnake } from "../base/case.ts";
import { ownPolicyOf, POLICY_KEYS, type PolicyKey } from "../config/own-policy-spec.ts";
import type { RunConfig } from "../config/schema.ts";
import type { TrackerSpec } from "../config/track-section.ts";
import { cacheFolder, environmentPython } from "../installation.ts";
import { isThere } from "../base/read-file.ts";

/*
 * A run directory may come from somebody else, so its record does not choose which code runs: the user has to name that code on
 * this machine. The code that a run was started with is remembered in the cache folder, so that it need not be named again to
 * resume, evaluate or export the run.
 */

/** A key of a config that chooses code, and what it chooses. */
export interface NamedCode {
  readonly key:
    | "workers.python"
    | "workers.command"
    | "workers.cluster.address"
    | "workers.cluster.token_file"
    | "workers.cluster.runtime_env"
    | "track"
    | "model.task_folder"
    | "model.trust_remote_code"
    | `strategy.${PolicyName}`
    | `strategy.${PolicyName}.module`;
  readonly value: string;
}

type PolicyName = "selection" | "rank_assignment" | "aggregation";

type CodeConfig = Pick<RunConfig, "model"> & {
  readonly workers: Partial<Pick<RunConfig["workers"], "python" | "command" | "cluster">>;
  /** Of a file, or of a program. */
  readonly strategy?: Readonly<Partial<Record<PolicyKey, unknown>>>;
};

/** Remembers the code that the user has named. If that cannot be written, the code has to be named again. */
export async function rememberCode(config: CodeConfig): Promise<void> {
  await remember(codeIn(config));
}

/** Code that a recorded config chooses but nobody has named on this machine. */
export function unnamedCode(config: CodeConfig): readonly NamedCode[] {
  return unnamed(codeIn(config));
}

/** As unnamedCode, for policies alone. */
export function unnamedPolicies(strategy: NonNullable<CodeConfig["strategy"]>): readonly NamedCode[] {
  return unnamed(policiesIn(strategy));
}

/** As rememberCode, for where a run is delivered to. */
export async function rememberTrackers(trackers: readonly TrackerSpec[]): Promise<void> {
  await remember(trackersIn(trackers));
}

/**
 * Trackers of a recorded config that nobody has named on this machine: a record alone sends nothing, and no credentials, anywhere.
 * Not among them are those that, without options, write to this machine's own stores.
 */
export function unnamedTrackers(trackers: readonly TrackerSpec[]): readonly NamedCode[] {
  return unnamed(trackersIn(trackers));
}

type Marked = NamedCode & { readonly mark: string };

async function remember(all: readonly Marked[]): Promise<void> {
  for (const { mark } of all) {
    await mkdir(path.dirname(mark), { recursive: true })
      .then(() => writeFile(mark, ""))
      .catch(() => undefined);
  }
}

function unnamed(all: readonly Marked[]): readonly NamedCode[] {
  return all.flatMap(({ key, value, mark }) => (isThere(mark) ? [] : [{ key, value }]));
}

function trackersIn(trackers: readonly TrackerSpec[]): readonly Marked[] {
  return trackers
    .filter((spec) => ["mlflow", "wandb"].includes(spec.name) || Object.keys(spec).length > 1)
    .map((spec) => named("track", JSON.stringify(snakeKeys(spec))));
}

function codeIn({ workers: { python, command, cluster }, model, strategy = {} }: CodeConfig): readonly Marked[] {
  const interpreter = python?.includes("/") ? path.resolve(python) : python;
  const taskFolder = path.resolve(model.taskFolder ?? ".");
  return [
    ...(interpreter === undefined || interpreter === environmentPython() ? [] : [named("workers.python", interpreter)]),
    ...(command ? [named("workers.command", JSON.stringify(command))] : []),
    ...(cluster ? clusterCode(cluster) : []),
    ...(model.task.includes(":") ? [named("model.task_folder", taskFolder, model.task)] : []),
    ...(model.trustRemoteCode ? [named("model.trust_remote_code", "true", model.nameOrPath, model.revision ?? "")] : []),
    ...policiesIn(strategy),
  ];
}

/** A file that is named for one policy, with whatever options, is named for all. */
function policiesIn(strategy: NonNullable<CodeConfig["strategy"]>): readonly Marked[] {
  return POLICY_KEYS.flatMap((key) => {
    const own = ownPolicyOf(strategy[key]);
    if (!own) return [];
    const { mark, value } = named("strategy.aggregation", path.resolve(own.module));
    const at = `strategy.${toSnake(key) as PolicyName}` as const;
    return [{ key: own.options ? (`${at}.module` as const) : at, value, mark }];
  });
}

/** A cluster is sent a token, and runs what its runtime environment installs, starts or imports. */
function clusterCode({ address, tokenFile, runtimeEnv }: NonNullable<RunConfig["workers"]["cluster"]>): ReturnType<typeof named>[] {
  return [
    named("workers.cluster.address", address),
    ...(tokenFile === undefined ? [] : [named("workers.cluster.token_file", tokenFile, address)]),
    ...(runtimeEnv === undefined ? [] : [named("workers.cluster.runtime_env", JSON.stringify(runtimeEnv))]),
  ];
}

function named(key: NamedCode["key"], value: string, ...more: readonly string[]): Marked {
  const sha256 = createHash("sha256")
    .update(JSON.stringify([key, value, ...more]))
    .digest("hex");
  return { key, value, mark: path.join(cacheFolder(), "named-code", sha256) };
}
