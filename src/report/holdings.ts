import type { ClientColumns } from "../protocol/client-columns.ts";
import { formatCount, plural } from "./format.ts";
import { tails, total } from "./tails.ts";

/** What the clients train on. */
export type Holdings = Pick<ClientColumns, "ids" | "mix" | "values">;

/** The same of clients that are listed one by one. */
export function holdingsOf(
  clients: Iterable<{ readonly id: string; readonly mix: readonly { readonly value: string; readonly n: number }[] }>,
): Holdings {
  const [ids, starts, keys, counts]: [string[], number[], number[], number[]] = [[], [0], [], []];
  const keyOf = new Map<string, number>();
  for (const { id, mix } of clients) {
    ids.push(id);
    for (const { value, n } of mix) {
      const key = keyOf.get(value) ?? keyOf.size;
      keyOf.set(value, key);
      keys.push(key);
      counts.push(n);
    }
    starts.push(keys.length);
  }
  const mix = { starts: Uint32Array.from(starts), keys: Uint32Array.from(keys), counts: Uint32Array.from(counts) };
  return { ids, mix, values: [...keyOf.keys()] };
}

/** The count of one client and one value, both by their index in the table. */
export interface Cell {
  readonly client: number;
  readonly value: number;
  readonly n: number;
}

/** What the clients train on, limited to what one picture can show, and the totals over all. */
export interface HoldingTable {
  readonly clients: readonly { readonly id: string; readonly n: number }[];
  /** The most common first; the rarest are combined in one row. */
  readonly values: readonly { readonly name: string; readonly n: number }[];
  readonly cells: readonly Cell[];
  /** The largest cell. */
  readonly largest: number;
  readonly description: string;
}

const [SHOWN_CLIENTS, SHOWN_VALUES] = [100, 30];

/** Undefined if no example has a value. */
export function tabulate({ ids, mix, values }: Holdings): HoldingTable | undefined {
  const totals = new Float64Array(values.length);
  for (const [pair, key] of mix.keys.entries()) totals[key] = (totals[key] as number) + (mix.counts[pair] as number);
  const held = Array.from(totals, (n, key) => ({ name: values[key] as string, n, key })).filter(({ n }) => n > 0);
  if (held.length === 0) return undefined;
  const ranked = held.toSorted((a, b) => b.n - a.n);
  const named = ranked.length > SHOWN_VALUES ? ranked.slice(0, SHOWN_VALUES - 1) : ranked;
  const rest = ranked.slice(named.length);
  const rowOf = new Map(named.map(({ key }, row) => [key, row]));
  const sizes = sizesOf(mix);
  const isCut = ids.length > SHOWN_CLIENTS;
  const shown = isCut ? tails(sizes, SHOWN_CLIENTS / 2) : [...ids.keys()];
  const cells = shown.flatMap((index, client) => {
    const counts = new Map<number, number>();
    for (let pair = mix.starts[index] as number; pair < (mix.starts[index + 1] as number); pair++) {
      const row = rowOf.get(mix.keys[pair] as number) ?? named.length;
      counts.set(row, (counts.get(row) ?? 0) + (mix.counts[pair] as number));
    }
    return [...counts].map(([value, n]): Cell => ({ client, value, n }));
  });
  const all = plural(ids.length, "client");
  const who = isCut ? `the ${SHOWN_CLIENTS / 2} largest and the ${SHOWN_CLIENTS / 2} smallest of ${all}` : all;
  return {
    clients: shown.map((index) => ({ id: ids[index] as string, n: sizes[index] as number })),
    values: [
      ...named.map(({ name, n }) => ({ name, n })),
      ...(rest.length > 0 ? [{ name: `${formatCount(rest.length)} others`, n: total(rest.map(({ n }) => n)) }] : []),
    ],
    cells,
    largest: cells.reduce((most, { n }) => Math.max(most, n), 1),
    description: `${who}; ${plural(total(totals), "example")} and ${plural(held.length, "value")} in all`,
  };
}

/** How many examples each client trains on. */
function sizesOf({ starts, counts }: Holdings["mix"]): Float64Array {
  return Float64Array.from({ length: starts.length - 1 }, (_, client) => total(counts.subarray(starts[client], starts[client + 1])));
}
