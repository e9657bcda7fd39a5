import * as fc from "fast-check";
import type { AdapterLayout } from "../../../../../src/adapter/layout.ts";
import { createLayout } from "../../../../../src/adapter/layout.ts";
import { segments } from "../../../../../src/adapter/segments.ts";
import type { RoundContext, Update } from "../../../../../src/strategy/strategy.ts";
import { type Federation, federationOf } from "../../../../support/federations.ts";
import { randomAdapter, zeroAdapter } from "../../../../../src/testing/index.ts";

/** Three segments of 14 values a row, and a head. */
export const layout: AdapterLayout = createLayout(
  { r: 4, tiers: [1, 2, 4], scale: 2 },
  { modules: [{ name: "m", in: 8, out: 6 }], dense: [{ name: "head", shape: [5] }] },
);

/** 1 to 11 clients of any rank; values up to 1. */
export const crowds: fc.Arbitrary<Federation> = fc
  .tuple(
    fc.array(fc.record({ r: fc.constantFrom(1, 2, 4), size: fc.integer({ min: 1, max: 500 }) }), { minLength: 1, maxLength: 11 }),
    fc.nat(),
  )
  .map(([members, seed]) => federationOf(layout, members, seed, randomAdapter));

/** The same round from a global adapter of zeros, so that its outcome is its step. */
export function fromZero({ context, updates }: Federation): Federation {
  return { context: { ...context, global: zeroAdapter(layout, layout.r) }, updates };
}

/** A segment's clients: what each changed there, and how many examples it holds. */
export interface Column {
  readonly deltas: readonly (readonly number[])[];
  readonly sizes: readonly number[];
}

/** The values after a round, computed naively: rows, then dense. `step` returns undefined for what keeps its value. */
export function expectedAfter(
  { global, layout: { tiers, width, r } }: RoundContext,
  updates: readonly Update[],
  step: (column: Column) => readonly number[] | undefined,
): readonly number[] {
  const next = [...global.rows, ...global.dense];
  const move = (at: number, holders: readonly Update[], valuesOf: (update: Update) => readonly number[]) => {
    const moved = holders.length > 0 ? step({ deltas: holders.map(valuesOf), sizes: holders.map(({ n }) => n) }) : undefined;
    moved?.forEach((value, index) => (next[at + index]! += value));
  };
  for (const { from, to } of segments(tiers)) {
    const holders = updates.filter((update) => update.r >= to);
    move(from * width, holders, ({ delta }) => [...delta.rows.subarray(from * width, to * width)]);
  }
  move(r * width, updates, ({ delta }) => [...delta.dense]);
  return next;
}

/** A step that looks at one coordinate after the other. */
export function byCoordinate(centre: (values: readonly number[]) => number): (column: Column) => readonly number[] {
  return ({ deltas }) => deltas[0]!.map((_, index) => centre(deltas.map((values) => values[index]!)));
}

export function largestDifference(
  received: { readonly rows: Float32Array; readonly dense: Float32Array },
  expected: readonly number[],
): number {
  return Math.max(...[...received.rows, ...received.dense].map((value, index) => Math.abs(value - expected[index]!)));
}
