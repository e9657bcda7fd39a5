import path from "node:path";
import { z } from "zod";
import { check } from "../config/check.ts";
import { argumentError, type ConfigError } from "../errors.ts";
import { parseJson } from "../base/json.ts";
import { isFile, isThere, readTextIfThere } from "../base/read-file.ts";
import { CLIENTS, clientSummary, readClientTable, type RecordedClients } from "./client-table.ts";
import { readListed, withoutList } from "./listed-clients.ts";
import { describeNoRun } from "./no-run.ts";
import { count, describeProblems, inSnakeCase, list, names } from "./schema.ts";

/*
 * `run.json`. It is written when a run begins, with its config, and again once data and model are ready, with their description.
 * It holds no times. It may come from elsewhere, so it chooses no program that is run and no path that is written to.
 *
 * Objects are written in the order of these schemas. A reader picks the parts it needs, so that it also takes the record of an
 * older version that lacks others.
 */

const hashes = z.record(z.string(), z.string());

/** The adapter that `lora.init_from` resolved to when the run began. */
const origin = z.strictObject({
  /** Absolute path of its folder. */
  path: z.string(),
  /** SHA-256 of `adapter_model.safetensors`, or of a run's `global.safetensors`. */
  sha256: z.string(),
  /** SHA-256 of `adapter_config.json`, which has the scale. */
  configSha256: z.string().optional(),
  /** If it comes from a run: the round. */
  round: z.number().optional(),
});

const begun = {
  name: z.string(),
  /** Version of prelort. */
  prelort: z.string(),
  method: z.object({ name: z.string(), note: z.string() }),
  /** What keeps the run from being a function of its config, seed and data. */
  doubts: names,
  /** The resolved config, with YAML's keys. `config/` writes and reads it. */
  config: z.record(z.string(), z.unknown()),
  /** SHA-256 by file of each policy of one's own that the config names, by its key; absent if all are built in. */
  policies: z.record(z.string(), hashes).optional(),
  /** Whether an aggregation of one's own has `present`, without which its adapters are used as they are; absent if it is built in. */
  presents: z.boolean().optional(),
  init_from: inSnakeCase(origin.nullable()),
};

const ready = {
  /** Of Node, Python and the libraries that decide bytes. */
  versions: z.record(z.string(), z.string()),
  /** Environment variables that choose kernels. */
  variables: z.record(z.string(), z.string()),
  device: inSnakeCase(
    z.object({ type: z.string(), name: z.string(), capability: z.string().nullable(), memoryBytes: z.number().nullable() }),
  ),
  /** SHA-256 by file, and the commit that a name on the hub resolved to. */
  model: z.object({ commit: z.string().nullable(), weights: hashes, tokenizer: hashes, config: hashes }),
  /** SHA-256 by file of a custom task. */
  code: hashes,
  data: z.object({ sha256: z.string() }),
  /** The prepared data. */
  index: z.object({ path: z.string(), sha256: z.string() }),
  labels: names,
  eval_examples: count,
  truncated_examples: count,
  /** What the user should know about the data, though it can be used. */
  remarks: names,
  /** `clients.json` has what is known of each. */
  clients: clientSummary,
  /** Parameters of the frozen base model. */
  base_parameters: count,
  layout: inSnakeCase(
    z.object({
      r: count,
      tiers: list(count),
      scale: z.number(),
      modules: list(z.object({ name: z.string(), in: count, out: count, offset: count })),
      width: count,
      dense: list(z.object({ name: z.string(), shape: list(count), offset: count })),
      denseSize: count,
    }),
  ),
  /** For adapter_config.json. */
  peft: inSnakeCase(z.object({ taskType: z.string().nullable(), modulesToSave: names })),
  /** Weights that no adapter acts on. */
  left_out: list(z.object({ name: z.string(), kind: z.string(), count, parameters: count })),
};

const begunRecord = z.object(begun);
const readyPart = z.object(ready);

/** `run.json` of a run whose data and model became ready. */
export const runRecord = z.object({ ...begun, ...ready });

/** The adapter that a run starts from, which `lora.init_from` resolved to. */
export type Origin = z.output<typeof origin>;
/** SHA-256 by file of a base model. */
export type RecordedModel = z.output<typeof runRecord>["model"];
/** A record as written or read, which is compared when a run is resumed. */
export type WrittenRecord = Readonly<Record<string, unknown>>;

/** Encodes what is known before any worker starts. */
export function encodeBegun(record: z.output<typeof begunRecord>): WrittenRecord {
  return z.encode(begunRecord, record);
}

/** Encodes what is added once data and model are ready. */
export function encodeReady(record: z.output<typeof readyPart>): WrittenRecord {
  return z.encode(readyPart, record);
}

/** Reads and parses `run.json`. Throws a ConfigError if there is none. */
export async function readRecord(directory: string): Promise<WrittenRecord> {
  return withoutList(await readAsWritten(directory));
}

/** The clients of a run whose record has been read. Throws a ConfigError if they are missing or damaged. */
export async function readClients(directory: string, record: Parameters<typeof readClientTable>[1]): Promise<RecordedClients> {
  const clients = readListed(await readAsWritten(directory)) ?? (await readClientTable(directory, record));
  if (clients) return clients;
  throw refusal(`${path.join(directory, CLIENTS)} is missing: it lists the run's clients; restore it from a copy`);
}

/** Throws a ConfigError that says what was looked for, where, and what to do if a folder holds no run. */
export async function requireRunIn(directory: string): Promise<void> {
  if (isFile(directory) || !isThere(path.join(directory, RUN_RECORD))) throw refusal(await describeNoRun(directory));
}

async function readAsWritten(directory: string): Promise<WrittenRecord> {
  const file = path.join(directory, RUN_RECORD);
  await requireRunIn(directory);
  const record = parseJson((await readTextIfThere(file)) ?? "");
  if (typeof record === "object" && record !== null && !Array.isArray(record)) return record as WrittenRecord;
  throw refusal(`${file} is damaged: it is not a JSON object; restore it from a copy`);
}

/** The parts of a run's record that a schema picks. Throws a ConfigError that says what is missing. */
export async function readReadyRecord<S extends z.ZodType>(directory: string, schema: S): Promise<z.output<S>> {
  return requireReady(directory, await readRecord(directory), schema);
}

/** The same for a record that has already been read. */
export function requireReady<S extends z.ZodType>(directory: string, record: WrittenRecord, schema: S): z.output<S> {
  const { value, problems } = check(schema, record, "snake_case");
  if (!problems) return value;
  if (!isReady(record)) {
    const remedy = `continue it with prelort resume ${directory}`;
    throw refusal(`the run in ${directory} ended before its data and model were ready, so it has no results; ${remedy}`);
  }
  const file = path.join(directory, RUN_RECORD);
  throw refusal(`${file} does not match the format of this version of prelort: ${describeProblems(problems)}`);
}

/** Whether a record was written again once data and model were ready. */
export function isReady(record: WrittenRecord): boolean {
  return !("config" in record) || "peft" in record || "layout" in record;
}

export const RUN_RECORD = "run.json";

function refusal(message: string): ConfigError {
  return argumentError("run-dir", message);
}
