import { createHash } from "node:crypto";
import path from "node:path";
import { z } from "zod";
import { parseJson } from "../base/json.ts";
import { readTextIfThere } from "../base/read-file.ts";
import { check } from "../config/check.ts";
import { argumentError, type ConfigError, RefusedError } from "../errors.ts";
import { checkColumns, type ClientColumns, sizesOf, startsOf, type Tally } from "../protocol/client-columns.ts";
import { count, describeProblems, sha256 } from "./schema.ts";

/*
 * `clients.json`: the run's clients in columns, a line for each. Of a million clients they are tens of megabytes, which only a report
 * or a verification reads; `run.json` has their number and hash.
 */

export interface RecordedClients extends Pick<ClientColumns, "ids" | "n" | "labelCounts" | "mix" | "values"> {
  /** Ranks before round 1. */
  readonly r: Uint32Array;
  readonly tokens: Uint32Array;
}

/** What `run.json` says of them. */
export const clientSummary = z.object({
  count,
  /** Of the lines that say which clients there are, at which ranks, with which examples: all but `values` and `mix`. */
  sha256,
});

export const CLIENTS = "clients.json";

export interface ClientTable {
  /** The file. */
  readonly parts: readonly Uint8Array[];
  readonly summary: Summary;
}

export function encodeClientTable(clients: RecordedClients): ClientTable {
  const { ids, n, r, tokens, labelCounts, values, mix } = clients;
  const hashed = [
    `"ids": ${JSON.stringify(ids)}`,
    `"n": ${written(n)}`,
    `"r": ${written(r)}`,
    `"tokens": ${written(tokens)}`,
    `"label_counts": ${writtenTally(labelCounts)}`,
  ];
  const lines = [...hashed, `"values": ${JSON.stringify(values)}`, `"mix": ${writtenTally(mix)}`];
  const hash = createHash("sha256");
  for (const line of hashed) hash.update(`${line}\n`);
  return {
    parts: lines.map((line, index) => Buffer.from(`${index === 0 ? "{\n" : ",\n"}${line}${index === lines.length - 1 ? "\n}\n" : ""}`)),
    summary: { count: ids.length, sha256: hash.digest("hex") },
  };
}

type Summary = z.output<typeof clientSummary>;

/** A run's clients; undefined if there is no such file. Throws a ConfigError if it is not the one that `run.json` describes. */
export async function readClientTable(
  directory: string,
  { clients: summary, labels }: { readonly clients: Summary; readonly labels: readonly string[] },
): Promise<RecordedClients | undefined> {
  const file = path.join(directory, CLIENTS);
  const text = await readTextIfThere(file);
  if (text === undefined) return undefined;
  const clients = parseTable(file, text, labels.length);
  const found = encodeClientTable(clients).summary.sha256;
  if (found !== summary.sha256) throw damaged(file, `its columns have SHA-256 ${found}, and run.json expects ${summary.sha256}`);
  return clients;
}

function parseTable(file: string, text: string, labels: number): RecordedClients {
  try {
    const { value, problems } = check(clientTable, parseJson(text), "snake_case");
    if (problems) throw damaged(file, describeProblems(problems));
    const { label_counts: labelCounts, ...columns } = value;
    const { n, r, tokens } = columns;
    checkColumns({ ...columns, labelCounts }, { n, r, tokens }, labels);
    return { ...columns, labelCounts };
  } catch (error) {
    throw error instanceof RefusedError ? damaged(file, error.message) : error;
  }
}

/** Unlike an array of zod's numbers, refused at its first wrong item. */
const column = z.unknown().transform((value, context) => {
  const wrong = Array.isArray(value) ? value.findIndex((item) => !isNumber(item)) : 0;
  if (Array.isArray(value) && wrong < 0) return Uint32Array.from(value as number[]);
  context.addIssue({ code: "custom", path: Array.isArray(value) ? [wrong] : [], message: "must be whole numbers from 0 to 2^32 - 1" });
  return z.NEVER;
});
const tally = z
  .object({ sizes: column, keys: column, counts: column })
  .transform(({ sizes, keys, counts }): Tally => ({ starts: startsOf(sizes), keys, counts }));
const strings = z.custom<readonly string[]>(
  (value) => Array.isArray(value) && value.every((item) => typeof item === "string"),
  "must be strings",
);
const clientTable = z.object({ ids: strings, n: column, r: column, tokens: column, label_counts: tally, values: strings, mix: tally });

function isNumber(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 0xffffffff;
}

function written(numbers: Uint32Array): string {
  return `[${numbers.join(",")}]`;
}

function writtenTally(counted: Tally): string {
  return `{"sizes": ${written(sizesOf(counted))}, "keys": ${written(counted.keys)}, "counts": ${written(counted.counts)}}`;
}

function damaged(file: string, problem: string): ConfigError {
  return argumentError("run-dir", `${file} is damaged: ${problem}; restore it from a copy`);
}
