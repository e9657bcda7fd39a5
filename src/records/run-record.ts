import path from "node:path";
import { z } from "zod";
import { camelKeys } from "../base/case.ts";
import { check, formatPath, type Problem } from "../config/check.ts";
import { ConfigError } from "../errors.ts";
import { parseJson } from "../base/json.ts";
import { readTextIfThere } from "../base/read-file.ts";

/*
 * `run.json`. It is written when a run begins, with its config, and again once the data and the model are ready, with what they
 * turned out to be. It may have come from elsewhere: it chooses no program that is run, and no path that is written to.
 */

/** What `run.json` says, as it was parsed. Throws a ConfigError if there is none. */
export async function readRecord(directory: string): Promise<Readonly<Record<string, unknown>>> {
  const file = path.join(directory, "run.json");
  const text = await readTextIfThere(file);
  if (text === undefined) {
    throw refusal(`${directory} holds no run that had begun: there is no run.json in it; start a run with prelort run`);
  }
  const record = parseJson(text);
  if (typeof record === "object" && record !== null && !Array.isArray(record)) return record as Record<string, unknown>;
  throw refusal(`${file} is damaged: it is not a JSON object; restore it from a copy`);
}

/** The same, of a run whose data and model had become ready. Throws a ConfigError that says what is missing. */
export async function readReadyRecord<S extends z.ZodType>(directory: string, schema: S): Promise<z.output<S>> {
  return requireReady(directory, await readRecord(directory), schema);
}

/** What a record says of the model, for adapter_config.json. */
export const peftIdentity = z
  .unknown()
  .transform(camelKeys)
  .pipe(z.object({ taskType: z.string().nullable(), modulesToSave: z.array(z.string()) }));

/** What a schema takes of a record. */
export function requireReady<S extends z.ZodType>(directory: string, record: Readonly<Record<string, unknown>>, schema: S): z.output<S> {
  const { value, problems } = check(schema, record, "snake_case");
  if (!problems) return value;
  // What is written once they are ready.
  if ("config" in record && !("peft" in record) && !("layout" in record)) {
    const remedy = `start it again with prelort resume ${directory}`;
    throw refusal(`the run in ${directory} ended before its data and model were ready, so there are no results in it; ${remedy}`);
  }
  const file = path.join(directory, "run.json");
  throw refusal(`${file} is not as this version of prelort writes it: ${describeProblems(problems)}`);
}

/** The first few, each with its key. */
export function describeProblems(problems: readonly Problem[]): string {
  const shown = problems.slice(0, SHOWN).map(({ path: at, message }) => `${formatPath(at, "snake_case")} ${message}`.trim());
  const more = problems.length - SHOWN;
  return `${shown.join("; ")}${more > 0 ? `; and ${more} more` : ""}`;
}

const SHOWN = 3;

function refusal(message: string): ConfigError {
  return new ConfigError([{ path: "run-dir", message }]);
}
