import { formatCount, plural } from "./format.ts";
import type { Holding } from "./mix.ts";

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
export function tabulate(holdings: readonly Holding[]): HoldingTable | undefined {
  const totals = new Map<string, number>();
  for (const { mix } of holdings) for (const { value, n } of mix) totals.set(value, (totals.get(value) ?? 0) + n);
  if (totals.size === 0) return undefined;
  const ranked = [...totals].toSorted(([, a], [, b]) => b - a);
  const named = ranked.length > SHOWN_VALUES ? ranked.slice(0, SHOWN_VALUES - 1) : ranked;
  const rest = ranked.slice(named.length);
  const rowOf = new Map(named.map(([value], row) => [value, row]));
  const values = [
    ...named.map(([name, n]) => ({ name, n })),
    ...(rest.length > 0 ? [{ name: `${formatCount(rest.length)} others`, n: sum(rest.map(([, n]) => n)) }] : []),
  ];
  const shown = holdings.slice(0, SHOWN_CLIENTS);
  const cells = shown.flatMap(({ mix }, client) => {
    const counts = new Map<number, number>();
    for (const { value, n } of mix) {
      const row = rowOf.get(value) ?? named.length;
      counts.set(row, (counts.get(row) ?? 0) + n);
    }
    return [...counts].filter(([, n]) => n > 0).map(([value, n]): Cell => ({ client, value, n }));
  });
  const all = plural(holdings.length, "client");
  const who = shown.length < holdings.length ? `the first ${SHOWN_CLIENTS} of ${all}` : all;
  return {
    clients: shown.map(({ id, mix }) => ({ id, n: sum(mix.map(({ n }) => n)) })),
    values,
    cells,
    largest: cells.reduce((most, { n }) => Math.max(most, n), 1),
    description: `${who}; ${plural(sum([...totals.values()]), "example")} and ${plural(totals.size, "value")} in all`,
  };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
