import { formatCount, NOTHING } from "./format.ts";
import { evaluatedRounds, qualityOf } from "./quality.ts";
import type { RecordedRun } from "../records/read-run.ts";
import { median, tails, total } from "./tails.ts";
import type { Table } from "./tables.ts";

/** Rows up to which all clients are listed; beyond, only the largest and the smallest of them. */
const [ALL_CLIENTS, TAIL] = [60, 10];

export function clientsTable({ record, clients, rounds }: RecordedRun): Table {
  const { ids, n, r, labelCounts } = clients;
  const quality = qualityOf(rounds);
  const own = evaluatedRounds(rounds).at(-1)?.byClient ?? [];
  const ownOf = new Map(own.map((client) => [client.id, client]));
  const reported = countOf(rounds, ({ reported: names }) => names);
  const failed = countOf(rounds, ({ failed: names }) => names);
  const isCut = ids.length > ALL_CLIENTS;
  const columns = [
    {
      name: "examples",
      all: formatCount(total(n)),
      median: formatCount(median(n)),
      of: (index: number) => formatCount(n[index] as number),
    },
    { name: "rank", of: (index: number, id: string) => String(ownOf.get(id)?.r ?? r[index]) },
    ...(record.labels.length > 0 ? [labelsHeld(record.labels.length, labelCounts)] : []),
    ...own.slice(0, 1).map(() => ({
      name: `own ${quality.name}`,
      of: (_: number, id: string) => quality.format(valueOf(ownOf.get(id), quality.of)),
    })),
    { name: "rounds reported", all: formatCount(total(reported.values())), of: (_: number, id: string) => String(reported.get(id) ?? 0) },
    { name: "rounds failed", all: formatCount(total(failed.values())), of: (_: number, id: string) => String(failed.get(id) ?? 0) },
  ] satisfies readonly Column[];
  const summary = (name: string, of: (column: Column) => string | undefined) => [name, ...columns.map((column) => of(column) ?? NOTHING)];
  const shown = isCut ? tails(n, TAIL) : [...ids.keys()];
  return {
    title: isCut ? `Clients: the ${TAIL} largest and the ${TAIL} smallest of ${formatCount(ids.length)}` : "Clients",
    columns: ["client", ...columns.map(({ name }) => name)],
    rows: [
      ...(isCut ? [summary("all", ({ all }) => all), summary("median", (column) => column.median)] : []),
      ...shown.map((index) => [ids[index] as string, ...columns.map(({ of }) => of(index, ids[index] as string))]),
    ],
  };
}

interface Column {
  readonly name: string;
  /** Of all clients together. */
  readonly all?: string;
  readonly median?: string;
  /** Of one client. */
  of(index: number, id: string): string;
}

function labelsHeld(labels: number, { starts }: RecordedRun["clients"]["labelCounts"]): Column {
  return {
    name: "labels held",
    of: (index) => `${(starts[index + 1] as number) - (starts[index] as number)} of ${labels}`,
  };
}

function countOf(
  rounds: RecordedRun["rounds"],
  namesOf: (round: RecordedRun["rounds"][number]) => readonly string[],
): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const round of rounds) for (const id of namesOf(round)) counts.set(id, (counts.get(id) ?? 0) + 1);
  return counts;
}

function valueOf<T>(value: T | undefined, of: (value: T) => number | null): number | null {
  return value === undefined ? null : of(value);
}
