import { z } from "zod";
import { RefusedError } from "../errors.ts";
import { bytes, list } from "./fields.ts";
import { type IdIndex, indexIds } from "./id-index.ts";

/*
 * What a worker knows of all clients, as columns: a list or an array with an item for every client. A million clients are a few
 * arrays, not a million objects.
 */

/** Counts by key, of every client: its pairs are those from `starts[client]` to `starts[client + 1]`. */
export interface Tally {
  /** One more than there are clients. */
  readonly starts: Uint32Array;
  readonly keys: Uint32Array;
  readonly counts: Uint32Array;
}

export interface ClientColumns {
  readonly ids: readonly string[];
  readonly indexOf: IdIndex;
  /** Training examples, at least one each. */
  readonly n: Uint32Array;
  /** Examples of its own that a client holds out. */
  readonly nEval: Uint32Array;
  /** In its training examples. */
  readonly nTokens: Uint32Array;
  readonly nTruncated: Uint32Array;
  /** Training examples by label; keys are indices of labels, ascending. Labels that a client lacks are left out. */
  readonly labelCounts: Tally;
  /** Training examples by value of the partition's column, or by label, the most common first; keys are indices of `values`. */
  readonly mix: Tally;
  readonly values: readonly string[];
}

/** A column on the wire: a little-endian unsigned 32-bit number for every item. */
const column = bytes.refine(({ length }) => length % 4 === 0, "must be whole numbers of 4 bytes");
/** The numbers of pairs of every client, then all pairs. */
const wireTally = z.strictObject({ sizes: column, keys: column, counts: column });

/** The content of the tensor `clients`. */
export const wireColumns = z.strictObject({
  ids: list(z.string(), 1),
  n: column,
  n_eval: column,
  n_tokens: column,
  n_truncated: column,
  label_counts: wireTally,
  mix: wireTally,
  values: list(z.string()),
});
export type WireColumns = z.infer<typeof wireColumns>;

/** Columns as they travel. */
export function toWire({ ids, n, nEval, nTokens, nTruncated, labelCounts, mix, values }: Omit<ClientColumns, "indexOf">): WireColumns {
  const figures = { n: asBytes(n), n_eval: asBytes(nEval), n_tokens: asBytes(nTokens), n_truncated: asBytes(nTruncated) };
  return { ids: [...ids], ...figures, label_counts: talliedBytes(labelCounts), mix: talliedBytes(mix), values: [...values] };
}

/** Throws a RefusedError if columns contradict each other. `labels` is how many there are. */
export function fromWire({ ids, values, ...columns }: WireColumns, labels: number): ClientColumns {
  const [n, nEval] = [asNumbers(columns.n), asNumbers(columns.n_eval)];
  const [nTokens, nTruncated] = [asNumbers(columns.n_tokens), asNumbers(columns.n_truncated)];
  const labelCounts = tallyOf(columns.label_counts);
  const mix = tallyOf(columns.mix);
  const numbers = { n, n_eval: nEval, n_tokens: nTokens, n_truncated: nTruncated };
  const indexOf = checkColumns({ ids, n, labelCounts, mix, values }, numbers, labels);
  return { ids, indexOf, n, nEval, nTokens, nTruncated, labelCounts, mix, values };
}

/** An index of the ids. Throws a RefusedError if ids repeat, or lengths or keys do not agree. `numbers`: columns by name. */
export function checkColumns(
  { ids, n, labelCounts, mix, values }: Pick<ClientColumns, "ids" | "n" | "labelCounts" | "mix" | "values">,
  numbers: Readonly<Record<string, Uint32Array>>,
  labels: number,
): IdIndex {
  const indexOf = indexIds(ids);
  for (const [name, { length }] of Object.entries(numbers))
    if (length !== ids.length) throw new RefusedError(`column ${name} of clients`, `${ids.length} numbers`, `${length}`);
  const idle = n.indexOf(0);
  if (idle >= 0) throw new RefusedError(`n of client ${ids[idle]}`, "at least 1", "0");
  checkTally("label_counts", labelCounts, ids, labels);
  checkTally("mix", mix, ids, values.length);
  checkAscending(labelCounts, ids);
  return indexOf;
}

/** The starts of every client's pairs, and where the last one's end. */
export function startsOf(sizes: Uint32Array): Uint32Array {
  const starts = new Uint32Array(sizes.length + 1);
  let sum = 0;
  for (const [client, size] of sizes.entries()) starts[client + 1] = sum += size;
  if (sum > 0xffffffff) throw new RefusedError("the pairs of all clients", "fewer than 2^32", `${sum}`);
  return starts;
}

/** The number of every client's pairs. */
export function sizesOf({ starts }: Tally): Uint32Array {
  return Uint32Array.from({ length: starts.length - 1 }, (_, client) => (starts[client + 1] as number) - (starts[client] as number));
}

/** One client's training examples for each of so many labels. */
export function labelCountsOf({ starts, keys, counts }: Tally, client: number, labels: number): readonly number[] {
  const all = Array<number>(labels).fill(0);
  for (let pair = starts[client] as number; pair < (starts[client + 1] as number); pair++)
    all[keys[pair] as number] = counts[pair] as number;
  return all;
}

/** The values in one client's training examples, the most common first. */
export function mixOf(
  { mix, values }: Pick<ClientColumns, "mix" | "values">,
  client: number,
): { readonly value: string; readonly n: number }[] {
  const [start, end] = [mix.starts[client] as number, mix.starts[client + 1] as number];
  return Array.from(mix.keys.subarray(start, end), (key, pair) => ({
    value: values[key] as string,
    n: mix.counts[start + pair] as number,
  }));
}

function tallyOf({ sizes, keys, counts }: z.infer<typeof wireTally>): Tally {
  return { starts: startsOf(asNumbers(sizes)), keys: asNumbers(keys), counts: asNumbers(counts) };
}

function checkTally(name: string, { starts, keys, counts }: Tally, ids: readonly string[], most: number): void {
  const refuse = (subject: string, expected: string, received: number | undefined) => {
    throw new RefusedError(`${subject} of ${name} of clients`, expected, `${received}`);
  };
  if (starts.length !== ids.length + 1) refuse("sizes", `${ids.length} numbers`, starts.length - 1);
  const pairs = starts.at(-1) ?? 0;
  if (keys.length !== pairs) refuse("keys", `${pairs} numbers`, keys.length);
  if (counts.length !== pairs) refuse("counts", `${pairs} numbers`, counts.length);
  for (let pair = 0; pair < pairs; pair++) {
    if ((keys[pair] as number) >= most) refuse("a key", `below ${most}`, keys[pair]);
    if (counts[pair] === 0) refuse("a count", "at least 1", 0);
  }
}

/** So that no label occurs twice. */
function checkAscending({ starts, keys }: Tally, ids: readonly string[]): void {
  for (const [client, id] of ids.entries()) {
    for (let pair = (starts[client] as number) + 1; pair < (starts[client + 1] as number); pair++) {
      const [before, key] = [keys[pair - 1] as number, keys[pair] as number];
      if (key <= before) throw new RefusedError(`label_counts of client ${id}`, `a key above ${before}`, `${key}`);
    }
  }
}

function talliedBytes(tally: Tally): z.infer<typeof wireTally> {
  return { sizes: asBytes(sizesOf(tally)), keys: asBytes(tally.keys), counts: asBytes(tally.counts) };
}

function asBytes({ buffer, byteOffset, byteLength }: Uint32Array): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** A copy, which is aligned and does not keep the frame in memory. (A Buffer's own `slice` makes none.) */
function asNumbers(column: Uint8Array): Uint32Array {
  return new Uint32Array(new Uint8Array(column).buffer);
}
