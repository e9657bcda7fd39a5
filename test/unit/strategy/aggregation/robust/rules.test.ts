import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { segmentWise, type RobustOptions } from "../../../../../src/strategy/aggregation/segment-wise.ts";
import { withServerOptimizer } from "../../../../../src/strategy/aggregation/server-optimizer.ts";
import type { Update } from "../../../../../src/strategy/strategy.ts";
import { createRng, deriveSeed } from "../../../../../src/base/rng.ts";
import { aggregate, aggregateAny, bytesOf, componentBytes, federationOf } from "../../../../support/federations.ts";
import { randomAdapter } from "../../../../../src/testing/index.ts";
import { byCoordinate, type Column, crowds, expectedAfter, fromZero, largestDifference, layout } from "./reference.ts";

const ascending = (values: readonly number[]) => values.toSorted((a, b) => a - b);
const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
const mean = (values: readonly number[]) => sum(values) / values.length;

function medianOf(values: readonly number[]): number {
  const sorted = ascending(values);
  const half = sorted.length / 2;
  return sorted.length % 2 === 1 ? sorted[Math.floor(half)]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/** Blanchard et al., word for word. */
function krum({ deltas, sizes }: Column, f: number, m: number): readonly number[] {
  const n = deltas.length;
  const distance = (i: number, j: number) => sum(deltas[i]!.map((value, index) => (value - deltas[j]![index]!) ** 2));
  const scores = deltas.map((_, i) => {
    const others = deltas.flatMap((__, j) => (j === i ? [] : distance(i, j)));
    return sum(ascending(others).slice(0, n - f - 2));
  });
  const chosen = scores
    .map((score, i) => ({ score, i }))
    .toSorted((a, b) => a.score - b.score)
    .slice(0, m);
  const weight = sum(chosen.map(({ i }) => sizes[i]!));
  return deltas[0]!.map((_, index) => sum(chosen.map(({ i }) => sizes[i]! * deltas[i]![index]!)) / weight);
}

const enough = (least: number, step: (column: Column) => readonly number[]) => (column: Column) =>
  column.deltas.length < least ? undefined : step(column);

const references: readonly (readonly [RobustOptions, (column: Column) => readonly number[] | undefined])[] = [
  [{ name: "median" }, enough(3, byCoordinate(medianOf))],
  [
    { name: "trimmed-mean", trim: 0.2 },
    enough(
      5,
      byCoordinate((values) => mean(ascending(values).slice(Math.floor(values.length / 5), values.length - Math.floor(values.length / 5)))),
    ),
  ],
  [
    { name: "trimmed-mean", trim: 0.49 },
    enough(
      3,
      byCoordinate((values) =>
        mean(ascending(values).slice(Math.floor(values.length * 0.49), values.length - Math.floor(values.length * 0.49))),
      ),
    ),
  ],
  [{ name: "multi-krum", malicious: 1 }, enough(5, (column) => krum(column, 1, column.deltas.length - 1))],
  [{ name: "multi-krum", malicious: 2, keep: 3 }, enough(7, (column) => krum(column, 2, 3))],
  [{ name: "multi-krum", malicious: 1, keep: 1 }, enough(5, (column) => krum(column, 1, 1))],
  [{ name: "multi-krum", malicious: 1, keep: 100 }, enough(5, (column) => krum(column, 1, column.deltas.length - 1))],
];

describe.each(references)("the robust rule %j", (robust, reference) => {
  it("agrees with a naive implementation of the paper, segment by segment", async () => {
    await fc.assert(
      fc.asyncProperty(crowds, async ({ context, updates }) => {
        const { global } = await aggregateAny(segmentWise({ robust }), context, updates);
        expect(largestDifference(global, expectedAfter(context, updates, reference))).toBeLessThan(1e-6);
      }),
    );
  });

  it("keeps a segment that too few clients train to the byte, and reports it as held", async () => {
    const { context, updates } = federationOf(
      layout,
      [4, 4, 1].map((r) => ({ r, size: 5 })),
      1,
    );
    const twoOfThem = await aggregateAny(segmentWise({ robust }), context, updates.slice(0, 2));
    expect(bytesOf(twoOfThem.global)).toEqual(bytesOf(context.global));
    expect(twoOfThem.held).toEqual([1, 2, 4, "dense"]);
    expect(twoOfThem.coverage.map(({ clients }) => clients)).toEqual([2, 2, 2]);
  });
});

describe("the robust rule clip", () => {
  const clipped = segmentWise({ robust: { name: "clip", norm: 2 } });

  it("is the weighted mean of whole deltas scaled down to the norm", () => {
    fc.assert(
      fc.property(crowds, ({ context, updates }) => {
        const shorter = updates.map((update): Update => {
          const { r, rows, dense } = update.delta;
          const shrink = Math.min(1, 2 / Math.sqrt(sum([...rows, ...dense].map((value) => value * value))));
          return { ...update, delta: { r, rows: rows.map((value) => shrink * value), dense: dense.map((value) => shrink * value) } };
        });
        const expected = expectedAfter(context, shorter, ({ deltas, sizes }) =>
          deltas[0]!.map((_, index) => sum(deltas.map((values, client) => sizes[client]! * values[index]!)) / sum(sizes)),
        );
        expect(largestDifference(aggregate(clipped, context, updates).global, expected)).toBeLessThan(1e-6);
      }),
    );
  });

  it("leaves shorter deltas alone: the result is the plain mean to the byte", () => {
    fc.assert(
      fc.property(crowds, ({ context, updates }) => {
        const wide = segmentWise({ robust: { name: "clip", norm: 1e6 } });
        expect(bytesOf(aggregate(wide, context, updates).global)).toEqual(bytesOf(aggregate(segmentWise(), context, updates).global));
      }),
    );
  });
});

describe("every coordinate is between two honest values while the rule tolerates the number of malicious clients:", () => {
  test("the median of any number of clients", { name: "median" }, (clients) => Math.ceil(clients / 2) - 1);
  test("the mean trimmed by three tenths", { name: "trimmed-mean", trim: 0.3 }, (clients) => Math.floor((clients * 3) / 10));
  test("the mean trimmed by seven hundredths", { name: "trimmed-mean", trim: 0.07 }, (clients) => Math.floor((clients * 7) / 100));

  function test(title: string, robust: RobustOptions, tolerated: (clients: number) => number): void {
    it(title, async () => {
      const attacked = fc.tuple(
        fc.integer({ min: 3, max: 20 }),
        fc.nat(),
        fc.array(fc.float({ min: -64, max: 64, noNaN: true }), { minLength: 4, maxLength: 4 }),
      );
      await fc.assert(
        fc.asyncProperty(attacked, async ([count, seed, lies]) => {
          const members = Array.from({ length: count }, () => ({ r: 4, size: 3 }));
          const { context, updates } = fromZero(federationOf(layout, members, seed, randomAdapter));
          const malicious = new Set(createRng(deriveSeed(seed)).shuffle(updates).slice(0, tolerated(count)));
          const lie = (values: Float32Array) => values.map((_, index) => lies[index % lies.length]!);
          const sent = updates.map((update) => {
            const { r, rows, dense } = update.delta;
            return malicious.has(update) ? { ...update, delta: { r, rows: lie(rows), dense: lie(dense) } } : update;
          });
          const { global, held } = await aggregateAny(segmentWise({ robust }), context, sent);
          if (held?.length) return;
          const honest = updates.filter((update) => !malicious.has(update)).map(({ delta }) => delta);
          for (const part of ["rows", "dense"] as const) {
            global[part].forEach((value, index) => {
              const values = honest.map((delta) => delta[part][index]!);
              expect(value).toBeGreaterThanOrEqual(Math.min(...values));
              expect(value).toBeLessThanOrEqual(Math.max(...values));
            });
          }
        }),
      );
    });
  }
});

describe("multi-Krum, by hand", () => {
  const members = [10, 20, 30, 40, 50].map((size) => ({ r: 4, size }));
  const { context, updates } = fromZero(federationOf(layout, members, 5, randomAdapter));
  /** One value everywhere: 1, 2, 3, 4 and -60. */
  const sent = updates.map((update, index): Update => {
    const fill = (values: Float32Array) => values.map(() => [1, 2, 3, 4, -60][index]!);
    return { ...update, delta: { r: 4, rows: fill(update.delta.rows), dense: fill(update.delta.dense) } };
  });
  const firstValue = async (robust: RobustOptions, weights: "examples" | "uniform" = "examples") =>
    (await aggregateAny(segmentWise({ robust, weights }), context, sent)).global.rows[0];

  it("leaves out the outlier and weights the others by their examples", async () => {
    expect(await firstValue({ name: "multi-krum", malicious: 1 })).toBe((10 + 40 + 90 + 160) / 100);
    expect(await firstValue({ name: "multi-krum", malicious: 1 }, "uniform")).toBe(2.5);
  });

  it("keeps the first of several clients with the same score", async () => {
    // 2 and 3 each have two neighbours at distance 1.
    expect(await firstValue({ name: "multi-krum", malicious: 1, keep: 1 })).toBe(2);
  });
});

describe("minContributors", () => {
  const { context, updates } = federationOf(
    layout,
    [4, 2, 1].map((r) => ({ r, size: 7 })),
    9,
  );

  it("works with a robust rule: the larger minimum applies", async () => {
    const { held } = await aggregateAny(segmentWise({ robust: { name: "median" }, minContributors: 4 }), context, updates);
    expect(held).toEqual([1, 2, 4, "dense"]);
    expect((await aggregateAny(segmentWise({ robust: { name: "median" } }), context, updates)).held).toEqual([2, 4]);
  });
});

it("a robust rule works with a server optimiser, which does not step held segments", async () => {
  const { context, updates } = federationOf(
    layout,
    [4, 4, 4, 1].map((r) => ({ r, size: 7 })),
    9,
    randomAdapter,
  );
  const momentum = withServerOptimizer(segmentWise({ robust: { name: "median" } }), { name: "momentum" });
  expect(momentum.readsSpool).toBe(true);
  const first = await aggregateAny(momentum, context, updates);
  const later = { ...context, global: first.global, state: first.state! };
  const second = await aggregateAny(momentum, later, updates.slice(1));
  expect(second.held).toEqual([2, 4]);
  expect(componentBytes(second.global, layout, 1)).toBe(componentBytes(first.global, layout, 1));
  expect(second.state?.["velocity"]?.slice(layout.width, 4 * layout.width)).toEqual(
    first.state?.["velocity"]?.slice(layout.width, 4 * layout.width),
  );
  expect(componentBytes(second.global, layout, 0, 1)).not.toBe(componentBytes(first.global, layout, 0, 1));
});

describe("a robust rule", () => {
  const long = { ...layout, r: 1, tiers: [1], width: 600_001, modules: [], denseSize: 5 };
  const { context, updates } = federationOf(
    long,
    Array.from({ length: 5 }, () => ({ r: 1, size: 3 })),
    2,
  );

  it.each<RobustOptions>([{ name: "median" }, { name: "multi-krum", malicious: 1 }])(
    "reads updates for %j back from the spool alone, in blocks, with the same result as from memory",
    async (robust) => {
      const aggregation = segmentWise({ robust });
      const expected = await aggregateAny(aggregation, context, updates);
      const accumulator = aggregation.begin(context);
      expect(accumulator.folds).toBe(true);
      let largest = 0;
      for (const update of updates.toReversed()) {
        const kept = { rows: update.delta.rows.slice(), dense: update.delta.dense.slice() };
        const read = async (tensor: "rows" | "dense", from: number, to: number) => {
          largest = Math.max(largest, to - from);
          return kept[tensor].slice(from, to);
        };
        const delta = { ...update.delta, rows: kept.rows.slice(), dense: kept.dense.slice() };
        await accumulator.add({ ...update, delta, spooled: { read } });
        // Its memory is reused.
        delta.rows.fill(63);
        delta.dense.fill(63);
      }
      expect(bytesOf((await accumulator.finish()).global)).toEqual(bytesOf(expected.global));
      // At least four updates share a block, once one is left out.
      expect(largest).toBeLessThanOrEqual(2 ** 20 / 4);
    },
  );

  it("copies an update that is only in memory", async () => {
    const aggregation = segmentWise({ robust: { name: "median" } });
    const expected = await aggregateAny(aggregation, context, updates);
    const accumulator = aggregation.begin(context);
    for (const update of updates) {
      const delta = { ...update.delta, rows: update.delta.rows.slice(), dense: update.delta.dense.slice() };
      await accumulator.add({ ...update, delta });
      delta.rows.fill(63);
    }
    expect(bytesOf((await accumulator.finish()).global)).toEqual(bytesOf(expected.global));
  });
});

it("a robust rule is recorded with its options, and with the weights if it uses them", () => {
  const policyOf = (robust: RobustOptions) => segmentWise({ robust }).policy;
  expect(policyOf({ name: "median" })).toEqual({ name: "segment-wise", robust: { name: "median" } });
  expect(policyOf({ name: "trimmed-mean", trim: 0.1 })).toEqual({ name: "segment-wise", robust: { name: "trimmed-mean", trim: 0.1 } });
  const krumOptions = { name: "multi-krum", malicious: 2 } as const;
  expect(policyOf(krumOptions)).toEqual({ name: "segment-wise", weights: "examples", robust: krumOptions });
  const clip = { name: "clip", norm: 0.5 } as const;
  expect(policyOf(clip)).toEqual({ name: "segment-wise", weights: "examples", robust: clip });
});

it.each<[RobustOptions, string]>([
  [{ name: "clip", norm: 0 }, "robust.norm"],
  [{ name: "trimmed-mean", trim: 0.5 }, "robust.trim"],
  [{ name: "trimmed-mean", trim: 0 }, "robust.trim"],
  [{ name: "multi-krum", malicious: 0 }, "robust.malicious"],
  [{ name: "multi-krum", malicious: 1, keep: 1.5 }, "robust.keep"],
])("the invalid robust rule %j is refused by the option's name", (robust, path) => {
  const issues = [expect.objectContaining({ path })];
  expect(() => segmentWise({ robust })).toThrow(expect.objectContaining({ issues }));
});
