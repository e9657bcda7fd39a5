import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { segments } from "../../../../src/adapter/segments.ts";
import { segmentWise } from "../../../../src/strategy/aggregation/segment-wise.ts";
import type { RankedClient } from "../../../../src/strategy/strategy.ts";
import { aggregate, bytesOf, componentBytes, factorsOf, federationOf, federations, grid } from "../../../support/federations.ts";
import { updateOf } from "../../../../src/testing/index.ts";
import { context, large, layout, small } from "../../../support/two-components.ts";

describe("segment-wise aggregation by hand", () => {
  it("averages a segment over the clients that train it: the lower one 30 to 10, the upper one from the large client alone", () => {
    const { global, coverage } = aggregate(segmentWise(), context, [small, large]);
    expect([...global.rows]).toEqual([1 + 3, 1 + 2, 6, 1, 2 + 3, 2 + 3, 3, 3]);
    expect([...global.dense]).toEqual([101]);
    expect(coverage).toEqual([
      { r: 1, clients: 2, examples: 40 },
      { r: 2, clients: 1, examples: 10 },
    ]);
  });

  it("gives all clients the same weight with uniform weights", () => {
    const { global } = aggregate(segmentWise({ weights: "uniform" }), context, [small, large]);
    expect([...global.rows]).toEqual([1 + 2, 1 + 4, 4, 1, 5, 5, 3, 3]);
    expect([...global.dense]).toEqual([100]);
  });

  it("keeps a segment that nobody trained unchanged", () => {
    const { global } = aggregate(segmentWise(), context, [small]);
    expect([...global.rows]).toEqual([5, 1, 8, 1, 2, 2, 0, 0]);
    expect([...global.dense]).toEqual([102]);
  });

  it("describes its policy for the run's record", () => {
    expect(segmentWise().policy).toEqual({ name: "segment-wise", weights: "examples" });
  });
});

const near = (received: number, expected: number) => Math.abs(received - expected) <= 1e-6 * Math.max(1, Math.abs(expected));

describe("laws of segment-wise aggregation", () => {
  it("equals, factor by factor, the mean over the clients that have the component", () => {
    fc.assert(
      fc.property(federations, ({ context, updates }) => {
        const { global } = aggregate(segmentWise(), context, updates);
        const [next, previous] = [factorsOf(global, context.layout), factorsOf(context.global, context.layout)];
        const deltas = updates.map(({ r, n, delta }) => ({ r, n, factors: factorsOf(delta, context.layout) }));
        for (const { name } of context.layout.modules) {
          for (const factor of ["a", "b"] as const) {
            next.get(name)?.[factor].forEach((row, i) =>
              row.forEach((value, j) => {
                const component = factor === "a" ? i : j;
                const holders = deltas.filter(({ r }) => r > component);
                const weight = holders.reduce((sum, { n }) => sum + n, 0);
                const mean = holders.reduce((sum, { n, factors }) => sum + (n * factors.get(name)![factor][i]![j]!) / weight, 0);
                expect(value).toSatisfy((received: number) => near(received, previous.get(name)![factor][i]![j]! + mean));
              }),
            );
          }
        }
      }),
    );
  });

  it("equals FedAvg of the clients' factors and heads when all have the same rank", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 500 }), { minLength: 1, maxLength: 5 }), fc.nat(), (sizes, seed) => {
        const { context, updates } = federationOf(
          layout,
          sizes.map((size) => ({ r: 2, size })),
          seed,
        );
        const { global } = aggregate(segmentWise(), context, updates);
        const total = sizes.reduce((sum, size) => sum + size, 0);
        for (const part of ["rows", "dense"] as const) {
          global[part].forEach((value, index) => {
            const trained = updates.map(({ n, delta, received }) => (n * (received[part][index]! + delta[part][index]!)) / total);
            expect(value).toSatisfy((mean: number) =>
              near(
                mean,
                trained.reduce((sum, share) => sum + share, 0),
              ),
            );
          });
        }
      }),
    );
  });

  it("takes over a single client's values on its prefix", () => {
    fc.assert(
      fc.property(federations, ({ context, updates: [update] }) => {
        const { global } = aggregate(segmentWise(), context, [update!]);
        const { r, received, delta } = update!;
        delta.rows.forEach((change, index) => expect(near(global.rows[index]!, received.rows[index]! + change)).toBe(true));
        delta.dense.forEach((change, index) => expect(near(global.dense[index]!, received.dense[index]! + change)).toBe(true));
        expect(componentBytes(global, context.layout, r)).toBe(componentBytes(context.global, context.layout, r));
      }),
    );
  });

  it("does not change a byte above a client's rank when that client reports", () => {
    fc.assert(
      fc.property(federations, ({ context, updates }) => {
        const all = aggregate(segmentWise(), context, updates).global;
        for (const { clientId, r } of updates) {
          const others = updates.filter((update) => update.clientId !== clientId);
          const without = aggregate(segmentWise(), context, others).global;
          expect(componentBytes(all, context.layout, r)).toBe(componentBytes(without, context.layout, r));
        }
      }),
    );
  });

  it("does not change when a client is split into two halves", () => {
    fc.assert(
      fc.property(federations, ({ context, updates }) => {
        const halve = ({ id, size, ...rest }: RankedClient) => ["/1", "/2"].map((half) => ({ ...rest, id: id + half, size: size / 2 }));
        const split = { ...context, clients: context.clients.flatMap(halve) };
        const halves = split.clients.map((client) => updateOf(split, client, updates[client.index]!.delta));
        const [whole, joined] = [aggregate(segmentWise(), context, updates).global, aggregate(segmentWise(), split, halves).global];
        for (const part of ["rows", "dense"] as const) {
          joined[part].forEach((value, index) => expect(near(value, whole[part][index]!)).toBe(true));
        }
      }),
    );
  });

  it("keeps the components of an absent tier to the byte, and trains them again when the tier returns", () => {
    const { context, updates } = federationOf(
      layout,
      [
        { r: 1, size: 5 },
        { r: 2, size: 7 },
      ],
      3,
    );
    const [low, high] = updates;
    let global = context.global;
    for (let round = 0; round < 3; round++) global = aggregate(segmentWise(), { ...context, global }, [low!]).global;
    expect(componentBytes(global, layout, 1)).toBe(componentBytes(context.global, layout, 1));
    expect(componentBytes(global, layout, 0, 1)).not.toBe(componentBytes(context.global, layout, 0, 1));
    const back = aggregate(segmentWise(), { ...context, global }, [low!, high!]).global;
    expect(componentBytes(back, layout, 1)).not.toBe(componentBytes(context.global, layout, 1));
  });

  it("has segments with products that sum to the whole product: Σ_m B_seg·A_seg = B·A", () => {
    fc.assert(
      fc.property(federations, ({ context: { layout, global } }) => {
        for (const { a, b } of factorsOf(global, layout).values()) {
          const product = (from: number, to: number) =>
            grid(b.length, a[0]!.length, (i, j) =>
              range(from, to).reduce((sum, component) => sum + b[i]![component]! * a[component]![j]!, 0),
            );
          const bySegment = segments(layout.tiers).map(({ from, to }) => product(from, to));
          product(0, layout.r).forEach((row, i) =>
            row.forEach((value, j) =>
              expect(
                near(
                  bySegment.reduce((sum, part) => sum + part[i]![j]!, 0),
                  value,
                ),
              ).toBe(true),
            ),
          );
        }
      }),
    );
  });

  it("distributes prefixes that are views of the global adapter", () => {
    const start = segmentWise().distribute(context.global, layout, 1);
    expect(start.rows.buffer).toBe(context.global.rows.buffer);
    expect(bytesOf(start).rows).toBe(componentBytes(context.global, layout, 0, 1));
  });
});

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, index) => from + index);
}
