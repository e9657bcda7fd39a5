import { z } from "zod";
import { startsOf, type Tally } from "../protocol/client-columns.ts";
import { encodeClientTable, type RecordedClients } from "./client-table.ts";
import { count, list } from "./schema.ts";

/*
 * Runs that were written before there was `clients.json` list their clients in `run.json`. Such a record is read as if it had been
 * written today.
 */

const listedClients = list(
  z.object({
    id: z.string(),
    n: count,
    r: count,
    label_counts: list(count),
    mix: list(z.object({ value: z.string(), n: count })),
    tokens: count,
  }),
);
type Listed = z.output<typeof listedClients>;

/** The clients that a record lists; undefined if it lists none. */
export function readListed(record: Readonly<Record<string, unknown>>): RecordedClients | undefined {
  const { data } = listedClients.safeParse(record["clients"]);
  return data && columnsOf(data);
}

/** The record with a summary in place of the list, and without the hash of prepared data, whose format was another then. */
export function withoutList(record: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const clients = readListed(record);
  if (!clients) return record;
  const summarised = { ...record, clients: encodeClientTable(clients).summary };
  if (!("model" in record)) return summarised;
  const { index: _, ...rest } = summarised as typeof summarised & { readonly index?: unknown };
  return rest;
}

function columnsOf(clients: Listed): RecordedClients {
  const values = [...new Set(clients.flatMap(({ mix }) => mix.map(({ value }) => value)))];
  const keyOf = new Map(values.map((value, key) => [value, key]));
  const column = (of: (client: Listed[number]) => number) => Uint32Array.from(clients, of);
  return {
    ids: clients.map(({ id }) => id),
    n: column(({ n }) => n),
    r: column(({ r }) => r),
    tokens: column(({ tokens }) => tokens),
    labelCounts: tallyOf(clients.map(({ label_counts }) => label_counts.map((n, key) => [key, n] as const).filter(([, n]) => n > 0))),
    mix: tallyOf(clients.map(({ mix }) => mix.map(({ value, n }) => [keyOf.get(value) ?? 0, n] as const))),
    values,
  };
}

function tallyOf(clients: readonly (readonly (readonly [key: number, count: number])[])[]): Tally {
  const pairs = clients.flat();
  return {
    starts: startsOf(Uint32Array.from(clients, ({ length }) => length)),
    keys: Uint32Array.from(pairs, ([key]) => key),
    counts: Uint32Array.from(pairs, ([, n]) => n),
  };
}
