import * as fc from "fast-check";
import { clientsOf, randomAdapter, roundContext, updateOf, zeroAdapter } from "../../src/testing/index.ts";
import type { Adapter } from "../../src/adapter/adapter.ts";
import { type AdapterLayout, createLayout } from "../../src/adapter/layout.ts";
import type { Aggregate, Aggregation, RoundContext, Update } from "../../src/strategy/strategy.ts";
import { createRng, deriveSeed } from "../../src/base/rng.ts";

/** A possible round: a layout, clients of various ranks and sizes, and an update from each. */
export interface Federation {
  readonly context: RoundContext;
  readonly updates: readonly Update[];
}

const side = fc.integer({ min: 6, max: 9 });
const layouts: fc.Arbitrary<AdapterLayout> = fc
  .record({
    tiers: fc.uniqueArray(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 4 }).map((tiers) => tiers.toSorted((a, b) => a - b)),
    sides: fc.array(fc.tuple(side, side), { minLength: 1, maxLength: 3 }),
    dense: fc.array(fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 2 }), { maxLength: 2 }),
  })
  .map(({ tiers, sides, dense }) =>
    createLayout(
      { r: tiers.at(-1) ?? 1, tiers, scale: 2 },
      {
        modules: sides.map(([a, b], index) => ({ name: `layer.${index}`, in: a, out: b })),
        dense: dense.map((shape, index) => ({ name: `head.${index}`, shape })),
      },
    ),
  );

const members = fc.record({
  /** Each client's tier, by index, and its number of examples. */
  drawn: fc.array(fc.record({ tier: fc.nat(), size: fc.integer({ min: 1, max: 5000 }) }), { minLength: 1, maxLength: 6 }),
  seed: fc.nat(),
});

/** Layouts with updates from 1 to 6 clients, with values of every magnitude. */
export const federations = federationsWith(awkwardAdapter);

/** The same with values up to 1, so that a tolerance of 1e-6 is meaningful. */
export const moderateFederations = federationsWith(randomAdapter);

function federationsWith(valuesOf: ValuesOf): fc.Arbitrary<Federation> {
  return fc.tuple(layouts, members).map(([layout, { drawn, seed }]) => {
    const ranked = drawn.map(({ tier, size }) => ({ r: layout.tiers[tier % layout.tiers.length] ?? layout.r, size }));
    return federationOf(layout, ranked, seed, valuesOf);
  });
}

export function federationOf(
  layout: AdapterLayout,
  members: readonly { readonly r: number; readonly size: number }[],
  seed: number,
  valuesOf: ValuesOf = awkwardAdapter,
): Federation {
  const clients = clientsOf(members);
  const context = roundContext(layout, clients, { global: valuesOf(layout, layout.r, `${seed}/global`), seed });
  return { context, updates: clients.map((client) => updateOf(context, client, valuesOf(layout, client.r, `${seed}/${client.id}`))) };
}

/** float32 values of every magnitude up to 64, sometimes special ones. */
export function awkwardAdapter(layout: AdapterLayout, r: number, seed: string): Adapter {
  const rng = createRng(deriveSeed(seed));
  const awkward = [0, -0, 64, -64, 2 ** -149, 1 / 3];
  const value = () => {
    const kind = rng.next();
    if (kind < 0.15) return awkward[Math.floor(rng.next() * awkward.length)] ?? 0;
    return (2 * rng.next() - 1) * 10 ** (kind < 0.5 ? -8 * rng.next() : 0);
  };
  const { rows, dense } = zeroAdapter(layout, r);
  return { r, rows: rows.map(value), dense: dense.map(value) };
}

type ValuesOf = (layout: AdapterLayout, r: number, seed: string) => Adapter;

/** For an aggregation that finishes synchronously. */
export function aggregate(aggregation: Aggregation, context: RoundContext, updates: readonly Update[]): Aggregate {
  const finished = aggregateAny(aggregation, context, updates);
  if (finished instanceof Promise) throw new Error("the aggregation reads updates back");
  return finished;
}

export function aggregateAny(aggregation: Aggregation, context: RoundContext, updates: readonly Update[]): Aggregate | Promise<Aggregate> {
  const accumulator = aggregation.begin(context);
  for (const update of updates) void accumulator.add(update);
  return accumulator.finish();
}

/** An adapter's bytes, in which -0 and +0 differ. */
export function bytesOf({ rows, dense, merged }: Adapter): { readonly rows: string; readonly dense: string; readonly merged: string } {
  return { rows: hex(rows), dense: hex(dense), merged: merged ? hex(merged.rows) : "" };
}

/** `from` and `to` choose components. */

export function componentBytes({ rows }: Adapter, layout: AdapterLayout, from: number, to: number = layout.r): string {
  return hex(rows.subarray(from * layout.width, to * layout.width));
}

/** A_m [r, in] and B_m [out, r] of every module, by name of the module; nested arrays of float64. */
export function factorsOf(
  adapter: Adapter,
  layout: AdapterLayout,
): ReadonlyMap<string, { readonly a: number[][]; readonly b: number[][] }> {
  return new Map(
    layout.modules.map((module) => {
      const value = (row: number, column: number) => adapter.rows[row * layout.width + module.offset + column] ?? Number.NaN;
      const a = grid(adapter.r, module.in, (row, column) => value(row, column));
      const b = grid(module.out, adapter.r, (row, column) => value(column, module.in + row));
      return [module.name, { a, b }];
    }),
  );
}

/** s · B[:, :r] · A[:r, :] of every module, in the layout's order. */
export function productsOf(adapter: Adapter, layout: AdapterLayout, r = adapter.r): readonly number[][][] {
  return [...factorsOf(adapter, layout).values()].map(({ a, b }) =>
    grid(b.length, a[0]?.length ?? 0, (i, j) => {
      const terms = a.slice(0, r).map((row, component) => (b[i]?.[component] ?? 0) * (row[j] ?? 0));
      return layout.scale * terms.reduce((sum, term) => sum + term, 0);
    }),
  );
}

/** All merged components, as one adapter. */
export function mergedOf({ merged, dense }: Adapter): Adapter {
  if (!merged) throw new Error("nothing is merged");
  return { r: merged.ends.at(-1) ?? 0, rows: merged.rows, dense };
}

export type Grid = readonly (readonly number[])[];

/** The largest difference of two values, relative to the largest of `expected` or 1. */
export function difference(received: Grid, expected: Grid): number {
  const size = Math.max(1, ...expected.flat().map(Math.abs));
  return Math.max(0, ...expected.flatMap((row, i) => row.map((value, j) => Math.abs((received[i]?.[j] ?? Number.NaN) - value) / size)));
}

export function grid(rows: number, columns: number, value: (row: number, column: number) => number): number[][] {
  return Array.from({ length: rows }, (_, row) => Array.from({ length: columns }, (_, column) => value(row, column)));
}

function hex(values: Float32Array): string {
  return Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString("hex");
}
