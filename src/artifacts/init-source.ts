import path from "node:path";
import { peftTensors } from "../adapter/peft.ts";
import { type AdapterFactors, readPeftAdapter } from "../adapter/peft-adapter.ts";
import type { RunConfig } from "../config/schema.ts";
import { argumentError, ConfigError, RefusedError } from "../errors.ts";
import { parseJson } from "../base/json.ts";
import { isThere, readIfThere } from "../base/read-file.ts";
import { readTrained, type TrainedOptions } from "./load-trained.ts";
import { hashOf } from "../records/round-files.ts";
import { type Origin, runRecord } from "../records/run-record.ts";

/** A round's number, or `best`. */
type RoundName = NonNullable<TrainedOptions["round"]>;

/** An adapter to start a run from. */
export interface Source {
  readonly origin: Origin;
  readonly factors: AdapterFactors;
  /** Whether a run trained it, so that its prefixes are adapters themselves. */
  readonly isNested: boolean;
}

/**
 * Reads the adapter of a PEFT folder or a run's directory: the run's last committed one, or the one that `known` identifies. Throws a
 * ConfigError if there is no such adapter or it has changed, and a RunFailedError if the run is damaged.
 */
export async function readSource(folder: string, known?: Origin, round: RoundName | undefined = known?.round): Promise<Source> {
  const root = path.resolve(folder);
  try {
    const source = isThere(path.join(root, "run.json")) ? await fromRun(root, round) : await fromPeft(root);
    if (source.origin.round === undefined && round !== undefined) throw noRounds(`${root} is a PEFT adapter`);
    const { sha256, configSha256 } = source.origin;
    if (!known || (known.sha256 === sha256 && known.configSha256 === configSha256)) return source;
    throw new RefusedError(root, `the adapter that the run began with (SHA-256 ${known.sha256})`, sha256);
  } catch (error) {
    if (!(error instanceof RefusedError || error instanceof ConfigError)) throw error;
    const issues = error instanceof ConfigError ? error.issues : [{ path: "run-dir", message: error.message }];
    throw new ConfigError(issues.map((issue) => (issue.path === "round" ? issue : { path: "lora.init_from", message: issue.message })));
  }
}

function noRounds(why: string): ConfigError {
  return argumentError("round", `must be left out: only a run has rounds, and ${why}`);
}

/**
 * The adapter that a run starts from, or has started from, if `record` is that of a run in progress. Undefined for a random one.
 * `round` chooses a round other than the last of the run that the adapter comes from.
 */
export async function originOf({ lora }: Pick<RunConfig, "lora">, record?: unknown, round?: RoundName): Promise<Origin | undefined> {
  if (lora.init_from === undefined) {
    if (round !== undefined) throw noRounds("lora.init_from is not set");
    return undefined;
  }
  const known = runRecord.pick({ init_from: true }).safeParse(record).data?.init_from ?? undefined;
  // A run that has started no longer needs it.
  if (known && !isThere(known.path)) return known;
  // A path in a script may be relative to another working directory.
  const folder = known && !isThere(lora.init_from) ? known.path : lora.init_from;
  return (await readSource(folder, known, known ? known.round : round)).origin;
}

async function fromPeft(root: string): Promise<Source> {
  const [settings, weights] = ["adapter_config.json", "adapter_model.safetensors"].map((name) => path.join(root, name)) as [string, string];
  const [config, bytes] = [await readIfThere(settings), await readIfThere(weights)];
  if (!config) {
    throw new RefusedError(
      root,
      "a PEFT adapter (adapter_config.json) or a run's directory (run.json)",
      isThere(root) ? "neither" : "no such folder",
    );
  }
  if (!bytes) {
    const pickled = isThere(path.join(root, "adapter_model.bin"));
    const remedy = "adapter_model.bin, which may run code when it is loaded; if you trust it, load it with PEFT and save it again";
    throw new RefusedError(root, "adapter_model.safetensors", pickled ? remedy : "no weights");
  }
  const factors = readPeftAdapter(parseJson(new TextDecoder().decode(config)), bytes, root);
  return { origin: { path: root, sha256: hashOf([bytes]), configSha256: hashOf([config]) }, factors, isNested: false };
}

async function fromRun(root: string, asked: RoundName | undefined): Promise<Source> {
  const { layout, presented, round, sha256 } = await readTrained(root, { round: asked });
  const tensors = peftTensors(layout, presented, layout.r);
  const valuesOf = (name: string) => tensors.get(`base_model.model.${name}`)!.values;
  const modules = layout.modules.map(({ name, in: input, out }) => {
    const [a, b] = [valuesOf(`${name}.lora_A.weight`), valuesOf(`${name}.lora_B.weight`)];
    return [name, { in: input, out, r: layout.r, a, b, scale: layout.scale }] as const;
  });
  const dense = layout.dense.map(({ name, shape }) => [name, { shape, values: valuesOf(name) }] as const);
  return { origin: { path: root, sha256, round }, factors: { modules: new Map(modules), dense: new Map(dense) }, isNested: true };
}
