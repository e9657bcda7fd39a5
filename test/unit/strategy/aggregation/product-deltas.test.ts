import * as fc from "fast-check";
import { Matrix, SVD } from "ml-matrix";
import { describe, expect, it } from "vitest";
import type { Adapter } from "../../../../src/adapter/adapter.ts";
import { productDeltas } from "../../../../src/strategy/aggregation/product-deltas.ts";
import type { RankedClient, RoundContext, ServerState, Update } from "../../../../src/strategy/strategy.ts";
import {
  aggregate,
  aggregateAny,
  bytesOf,
  difference,
  type Federation,
  type Grid,
  moderateFederations,
  productsOf,
} from "../../../support/federations.ts";
import { clientsOf, layoutOf, randomAdapter, roundContext, updateOf, zeroAdapter } from "../../../../src/testing/index.ts";

const layout = layoutOf({ tiers: [1, 2], scale: 1, modules: [{ name: "m", in: 2, out: 2 }], dense: [{ name: "head", shape: [1] }] });
const clients = clientsOf([
  { size: 3, r: 1 },
  { size: 1, r: 2 },
]);
const [low, high] = clients as [RankedClient, RankedClient];
/** A row is [a, a, b, b]: B·A = e1·e1ᵀ, and A of the second component is e2. */
const global = { r: 2, rows: Float32Array.of(1, 0, 1, 0, 0, 1, 0, 0), dense: Float32Array.of(1) };
const context = roundContext(layout, clients, { global });
/** The first client turns e1·e1ᵀ into 5·e1·e1ᵀ; the second adds 8·e2·e2ᵀ. */
const updates = updatesFrom(context, [0, 0, 4, 0], [0, 0, 0, 0, 0, 0, 0, 8]);

function updatesFrom(context: RoundContext, lowRow: readonly number[], highRows: readonly number[]): readonly Update[] {
  return [
    updateOf(context, low, { r: 1, rows: Float32Array.from(lowRow), dense: Float32Array.of(4) }),
    updateOf(context, high, { r: 2, rows: Float32Array.from(highRows), dense: Float32Array.of(8) }),
  ];
}

const rounded = (values: Iterable<number>) => Array.from(values, (value) => Number(value.toFixed(5)));
const root = (value: number) => Number(Math.sqrt(value).toFixed(5));

describe("product deltas by hand, with the mean change ¾·4·e1·e1ᵀ + ¼·8·e2·e2ᵀ:", () => {
  it("adds it to the last product and splits the singular values 4 and 2 evenly between A and B", () => {
    const next = aggregate(productDeltas({ momentum: 0 }), context, updates);
    expect(rounded(next.global.rows)).toEqual([2, 0, 2, 0, 0, root(2), 0, root(2)]);
    expect([...next.global.dense]).toEqual([1 + 5]);
    expect(next.state).toEqual({});
    expect(next.coverage).toEqual([
      { r: 1, clients: 2, examples: 4 },
      { r: 2, clients: 1, examples: 1 },
    ]);
  });

  it("adds half of it again in a later round in which clients take no step, but not in one without reports", () => {
    const aggregation = productDeltas({ momentum: 0.5 });
    const first = aggregate(aggregation, context, updates);
    const silent = aggregate(aggregation, { ...context, round: 2, ...carried(first) }, []);
    expect([bytesOf(silent.global), silent.state]).toEqual([bytesOf(first.global), first.state]);
    const later = { ...context, round: 3, ...carried(silent) };
    const idle = later.clients.map((client) => updateOf(later, client, zeroAdapter(layout, client.r)));
    const second = aggregate(aggregation, later, idle);
    expect(rounded(productsOf(second.global, layout)[0]!.flat())).toEqual([4 + 1.5, 0, 0, 2 + 1]);
    expect([...second.global.dense]).toEqual([1 + 5 + 2.5]);
    const third = aggregate(aggregation, { ...later, round: 4, ...carried(second) }, []);
    expect(third.state).toEqual(second.state);
  });

  it("cuts what the next round continues with to the momentum's rank", () => {
    const aggregation = productDeltas({ momentum: 0.5, momentumRank: 1 });
    const first = aggregate(aggregation, context, updates);
    expect(rounded(productsOf(first.global, layout)[0]!.flat())).toEqual([4, 0, 0, 2]);
    expect(first.state?.["velocity"]).toHaveLength(1 * 4 + 1);
    const later = { ...context, round: 2, ...carried(first) };
    const second = aggregate(aggregation, later, [updateOf(later, low, zeroAdapter(layout, 1))]);
    expect(rounded(productsOf(second.global, layout)[0]!.flat())).toEqual([4 + 1.5, 0, 0, 2]);
  });

  it("keeps A, with B = 0, for a component below τ times the largest, and for one that the sum lacks", () => {
    const small = aggregate(productDeltas({ momentum: 0, tau: 0.6 }), context, updates).global;
    expect(rounded(small.rows)).toEqual([2, 0, 2, 0, 0, 1, 0, 0]);
    const lacking = aggregate(productDeltas({ momentum: 0 }), context, [updates[0]!]).global;
    expect(rounded(lacking.rows)).toEqual([root(5), 0, root(5), 0, 0, 1, 0, 0]);
  });

  it.each([[[0, -2, 0, -2, 2, 0, 2, 0]], [[2, 0, 2, 0, 0, -2, 0, -2]]])(
    "takes the signs of the last factors, and their order among equal singular values: %j",
    (rows) => {
      const still = { ...context, global: { ...global, rows: Float32Array.from(rows) } };
      expect(rounded(aggregate(productDeltas(), still, idleUpdates(still)).global.rows)).toEqual(rows);
    },
  );

  it("measures the change from what clients received, not from an adapter that was rounded on its way", () => {
    const rounding = { ...prefixOf(global, 1), rows: Float32Array.of(2, 0, 1, 0) };
    const update = { ...updates[0]!, received: rounding, delta: { r: 1, rows: Float32Array.of(0, 0, 4, 0), dense: Float32Array.of(0) } };
    // Received 2·e1·e1ᵀ, returned 10·e1·e1ᵀ.
    const next = aggregate(productDeltas({ momentum: 0 }), context, [update]).global;
    expect(rounded(productsOf(next, layout)[0]!.flat())).toEqual([1 + 8, 0, 0, 0]);
  });
});

it.each([
  ["momentum", { momentum: 1 }],
  ["momentumRank", { momentumRank: 1.5 }],
  ["tau", { tau: -0.1 }],
])("productDeltas refuses %s beyond its range", (option, options) => {
  expect(() => productDeltas(options)).toThrow(new RegExp(`\\b${option}\\b`));
});

/** Without τ, so that nothing is left out. */
const exact = productDeltas({ momentum: 0, tau: 0 });

describe("laws of product deltas", () => {
  it("keep the product when clients take no step", () => {
    fc.assert(
      fc.property(moderateFederations, ({ context }) => {
        const found = productsOf(aggregate(exact, context, idleUpdates(context)).global, context.layout);
        productsOf(context.global, context.layout).forEach((expected, module) =>
          expect(difference(found[module]!, expected)).toBeLessThan(1e-6),
        );
      }),
    );
  });

  it("keep the factors, too, from the second round without a step on, where singular values are distinct", () => {
    let compared = 0;
    fc.assert(
      fc.property(moderateFederations, ({ context }) => {
        const first = aggregate(exact, context, idleUpdates(context)).global;
        const later = { ...context, round: 2, global: first };
        const second = aggregate(exact, later, idleUpdates(later)).global;
        for (const { start, length, gap } of componentsWithGaps(first, context)) {
          if (gap < 0.02) continue;
          compared++;
          for (let index = start; index < start + length; index++) expect(second.rows[index]).toBeCloseTo(first.rows[index]!, 4);
        }
      }),
    );
    expect(compared).toBeGreaterThan(100);
  });

  it("return the product of a single client of the largest rank", () => {
    fc.assert(
      fc.property(moderateFederations, fc.nat(), fc.constantFrom(0, 0.5), ({ context: drawn }, seed, momentum) => {
        const { layout, global } = drawn;
        const context = roundContext(layout, clientsOf([{ r: layout.r }]), { global });
        const delta = randomAdapter(layout, layout.r, seed);
        const update = updateOf(context, context.clients[0]!, delta);
        const found = productsOf(aggregate(productDeltas({ momentum, tau: 0 }), context, [update]).global, layout);
        const trained = { ...global, rows: global.rows.map((value, index) => value + delta.rows[index]!) };
        productsOf(trained, layout).forEach((expected, module) => expect(difference(found[module]!, expected)).toBeLessThan(1e-6));
      }),
    );
  });

  it("give the best prefix in Frobenius norm at every rank, in the first round and in a later one with momentum", () => {
    fc.assert(
      fc.property(moderateFederations, fc.nat(), ({ context, updates }, seed) => {
        const aggregation = productDeltas({ momentum: 0.5, momentumRank: 9, tau: 0 });
        const first = aggregate(aggregation, context, updates);
        expectBestPrefixes(first.global, sumOf(context, updates), context);
        const later = { ...context, round: 2, ...carried(first) };
        const steps = context.clients.map((client) =>
          updateOf(later, client, randomAdapter(context.layout, client.r, `${seed}/${client.id}`)),
        );
        const second = aggregate(aggregation, later, steps);
        const velocity = changesOf(context, updates).map((change) => change.map((row) => row.map((value) => 0.5 * value)));
        expectBestPrefixes(second.global, plus(sumOf(later, steps), velocity), later);
      }),
    );
  });

  it("never leave a component with A = B = 0, which could not learn", () => {
    fc.assert(
      fc.property(moderateFederations, ({ context, updates }) => {
        const [lowest] = context.layout.tiers as [number];
        const present = updates.filter(({ r }) => r === lowest);
        const aggregation = productDeltas({ momentum: 0 });
        const { rows } = aggregate(aggregation, context, present).global;
        for (const { offset, in: a } of context.layout.modules) {
          for (let row = 0; row < context.layout.r; row++) {
            const start = row * context.layout.width + offset;
            expect(rows.subarray(start, start + a).some((value) => value !== 0)).toBe(true);
          }
        }
      }),
    );
  });
});

it("product deltas add the mean change for many clients of large modules, and let the event loop run between modules", async () => {
  const size = 544;
  const wide = layoutOf({ tiers: [32], scale: 1, modules: [{ name: "m", in: size, out: size }] });
  const context = roundContext(wide, clientsOf(Array.from({ length: 14 }, () => ({ r: 32 }))), {
    global: randomAdapter(wide, 32, "global"),
  });
  // All keep A, so that the sum has rank 32: (B + the mean change of B)·A.
  const isB = (index: number) => index % (2 * size) >= size;
  const onlyB = (delta: Adapter) => ({ ...delta, rows: delta.rows.map((value, index) => (isB(index) ? value : 0)) });
  const updates = context.clients.map((client) => updateOf(context, client, onlyB(randomAdapter(wide, 32, client.id))));
  const finished = aggregateAny(productDeltas({ momentum: 0, tau: 0 }), context, updates);
  expect(finished).toBeInstanceOf(Promise);
  const { global } = await finished;
  const mean = context.global.rows.map((value, index) => value + updates.reduce((sum, { delta }) => sum + delta.rows[index]!, 0) / 14);
  /** Column 5 of B·A. */
  const column = (rows: Float32Array) =>
    Array.from({ length: size }, (_, i) =>
      Array.from({ length: 32 }, (_, j) => rows[j * 2 * size + size + i]! * rows[j * 2 * size + 5]!).reduce((x, y) => x + y, 0),
    );
  expect(difference([column(global.rows)], [column(mean)])).toBeLessThan(1e-6);
});

/** Global adapter and state for the next round. */
function carried({ global, state = {} }: { readonly global: Adapter; readonly state?: ServerState }) {
  return { global, state };
}

function prefixOf({ rows, ...rest }: Adapter, r: number): Adapter {
  return { ...rest, r, rows: rows.subarray(0, (rows.length / rest.r) * r) };
}

function idleUpdates(context: RoundContext): readonly Update[] {
  return context.clients.map((client) => updateOf(context, client, zeroAdapter(context.layout, client.r)));
}

/** Σ_k p_k·s·(B_k·A_k − B·A), by the definition. */
function changesOf({ layout }: RoundContext, updates: readonly Update[]): readonly Grid[] {
  const total = updates.reduce((sum, { n }) => sum + n, 0);
  const changes = updates.map(({ n, r, received, delta }) => {
    const trained = { ...received, r, rows: received.rows.map((value, index) => value + delta.rows[index]!) };
    const before = productsOf(received, layout);
    return productsOf(trained, layout).map((after, module) =>
      after.map((row, i) => row.map((value, j) => (n / total) * (value - before[module]![i]![j]!))),
    );
  });
  return changes.reduce((sum, change) => plus(sum, change) as number[][][]);
}

function sumOf(context: RoundContext, updates: readonly Update[]): readonly Grid[] {
  return plus(productsOf(context.global, context.layout), changesOf(context, updates));
}

function plus(x: readonly Grid[], y: readonly Grid[]): readonly Grid[] {
  return x.map((grid, module) => grid.map((row, i) => row.map((value, j) => value + y[module]![i]![j]!)));
}

/** At every rank, the distance from the sum is that of its best approximation: the root of the sum of the other σ². */
function expectBestPrefixes(adapter: Adapter, sum: readonly Grid[], { layout }: RoundContext): void {
  for (const [module, whole] of sum.entries()) {
    const values = new SVD(new Matrix(whole.map((row) => [...row])), { autoTranspose: true }).diagonal;
    for (let r = 1; r <= layout.r; r++) {
      const near = productsOf(adapter, layout, r)[module]!;
      const distance = Math.sqrt(whole.flatMap((row, i) => row.map((value, j) => (value - near[i]![j]!) ** 2)).reduce((x, y) => x + y, 0));
      const least = Math.sqrt(values.slice(r).reduce((x, y) => x + y ** 2, 0));
      expect(distance / values[0]!).toBeCloseTo(least / values[0]!, 5);
    }
  }
}

/** Where each component is whose singular value differs from its neighbours', and by what share of the largest. */
function componentsWithGaps({ rows, r }: Adapter, { layout }: Pick<Federation["context"], "layout">) {
  return layout.modules.flatMap(({ offset, in: a, out: b }) => {
    const valueOf = (row: number) => {
      const start = row * layout.width + offset;
      return rows.subarray(start, start + a).reduce((sum, value) => sum + value ** 2, 0);
    };
    const values = Array.from({ length: r }, (_, row) => valueOf(row));
    const gapOf = (row: number) =>
      Math.min(...[row - 1, row + 1].map((other) => Math.abs(values[row]! - (values[other] ?? 0)))) / values[0]!;
    return values.map((_, row) => ({ start: row * layout.width + offset, length: a + b, gap: gapOf(row) }));
  });
}
