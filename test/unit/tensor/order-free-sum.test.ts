import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { RefusedError } from "../../../src/errors.ts";
import { asFloat32, encodedBytes } from "../../../src/tensor/encoded.ts";
import { BLOCK } from "../../../src/tensor/fold-kernel.ts";
import { OrderFreeSum, type SumOptions } from "../../../src/tensor/order-free-sum.ts";
import { createPlainLane } from "../../../src/tensor/plain-fold-kernel.ts";
import { createRng, deriveSeed } from "../../../src/base/rng.ts";
import { BLOCKS_A_TURN, inTurns } from "../../../src/base/turns.ts";

const bounds = { length: 3, largestValue: 64, totalWeight: 10 };

type Part = { readonly at: number; readonly values: Float32Array };

function add(sum: OrderFreeSum, weight: number, parts: readonly Part[]): void {
  void inTurns(
    sum.add(
      weight,
      parts.map(({ at, values }) => ({ name: "rows", at, values: asFloat32(values) })),
    ),
  );
}

function meanOf(sum: OrderFreeSum, weight: number, previous = new Float32Array(3)): Float32Array {
  const target = previous.slice();
  sum.addMeanTo(target, 0, weight);
  return target;
}

describe("the weighted mean of an order-free sum", () => {
  it("is added to the target: (3·1 + 1·5) / 4 = 2", () => {
    const sum = new OrderFreeSum(bounds);
    add(sum, 3, [{ at: 0, values: Float32Array.of(1, 0, -8) }]);
    add(sum, 1, [{ at: 0, values: Float32Array.of(5, 4, 8) }]);
    expect(meanOf(sum, 4, Float32Array.of(10, 20, 30))).toEqual(Float32Array.of(12, 21, 26));
  });

  it("can be taken of a contribution in parts, and of any range of the sum", () => {
    const sum = new OrderFreeSum(bounds);
    add(sum, 2, [
      { at: 2, values: Float32Array.of(7) },
      { at: 0, values: Float32Array.of(5) },
    ]);
    const target = Float32Array.of(1, 1);
    sum.addMeanTo(target, 1, 2);
    expect(target).toEqual(Float32Array.of(1, 8));
  });

  it("counts a contribution that is scaled down with its full weight", () => {
    const sum = new OrderFreeSum(bounds);
    void inTurns(sum.add(3, [{ name: "scaled", at: 0, values: asFloat32(Float32Array.of(8)) }], 0.25));
    add(sum, 1, [{ at: 0, values: Float32Array.of(2) }]);
    expect(meanOf(sum, 4, Float32Array.of(0))).toEqual(Float32Array.of((3 * 2 + 2) / 4));
    expect(() => add(sum, bounds.totalWeight - 3, [])).toThrow(RefusedError);
  });

  it("keeps the target's bytes, even of -0, where the sum is zero", () => {
    const sum = new OrderFreeSum(bounds);
    add(sum, 1, [{ at: 0, values: Float32Array.of(0, -0, 1) }]);
    add(sum, 1, [{ at: 0, values: Float32Array.of(0, 0, -1) }]);
    expect(meanOf(sum, 2, Float32Array.of(-0, -0, -0))).toEqual(Float32Array.of(-0, -0, -0));
  });
});

describe("an order-free sum", () => {
  const value = fc.oneof(
    fc.float({ min: -64, max: 64, noNaN: true }),
    fc.constantFrom(64, -64, 2 ** -149, -(2 ** -140), 0, -0, 2 ** -30, 1 / 3),
  );
  const contribution = fc.record({
    weight: fc.oneof(fc.integer({ min: 1, max: 2 ** 20 }), fc.constantFrom(0.5, 1.5, 2 ** 33)),
    values: fc.array(value, { minLength: 3, maxLength: 3 }).map((values) => Float32Array.from(values)),
  });
  const contributions = fc.array(contribution, { minLength: 1, maxLength: 12 });
  const shuffled = contributions.chain((inOrder) =>
    fc.tuple(fc.constant(inOrder), fc.shuffledSubarray(inOrder, { minLength: inOrder.length })),
  );

  const total = (list: readonly { weight: number }[]) => list.reduce((sum, { weight }) => sum + weight, 0);
  const meanOfAll = (list: readonly { weight: number; values: Float32Array }[], totalWeight: number) => {
    const sum = new OrderFreeSum({ ...bounds, totalWeight });
    for (const { weight, values } of list) add(sum, weight, [{ at: 0, values }]);
    return meanOf(sum, totalWeight);
  };

  it("has the same bytes in every order", () => {
    fc.assert(
      fc.property(shuffled, ([inOrder, inAnother]) => {
        const totalWeight = total(inOrder);
        expect(meanOfAll(inAnother, totalWeight)).toEqual(meanOfAll(inOrder, totalWeight));
      }),
    );
  });

  it("has the same bytes in every order even if large values cancel, when plain float64 sums would differ", () => {
    const tiny = fc.record({
      weight: fc.integer({ min: 1, max: 9 }),
      values: fc.constantFrom(1e-10, 3e-11, -7e-11).map((value) => new Float32Array(3).fill(value)),
    });
    const mirror = (list: readonly { weight: number; values: Float32Array }[]) =>
      list.map(({ weight, values }) => ({ weight, values: values.map((value) => -value) }));
    const cancelling = fc.tuple(contributions, tiny).map(([list, rest]) => [...list, rest, ...mirror(list)]);
    fc.assert(
      fc.property(
        cancelling.chain((list) => fc.tuple(fc.constant(list), fc.shuffledSubarray(list, { minLength: list.length }))),
        ([inOrder, inAnother]) => {
          const totalWeight = total(inOrder);
          expect(meanOfAll(inAnother, totalWeight)).toEqual(meanOfAll(inOrder, totalWeight));
        },
      ),
    );
  });

  it("gives the true mean up to its resolution and one rounding to float32", () => {
    fc.assert(
      fc.property(contributions, (list) => {
        const totalWeight = total(list);
        const mean = meanOfAll(list, totalWeight);
        for (let index = 0; index < 3; index++) {
          const exact = list.reduce((sum, { weight, values }) => sum + (weight / totalWeight) * (values[index] ?? 0), 0);
          expect(Math.abs((mean[index] ?? 0) - exact)).toBeLessThan(1e-12 + Math.abs(exact) * 2 ** -23);
        }
      }),
    );
  });

  it("is exact when every contribution reaches both bounds", () => {
    const count = 1000;
    const sum = new OrderFreeSum({ length: 1, largestValue: 64, totalWeight: count * 7 });
    const target = new Float32Array(1);
    for (let index = 0; index < count; index++) add(sum, 7, [{ at: 0, values: Float32Array.of(-64) }]);
    sum.addMeanTo(target, 0, count * 7);
    expect(target[0]).toBe(-64);
  });
});

describe("an order-free sum refuses, without being changed,", () => {
  const good = { at: 0, values: Float32Array.of(1, 2) };
  it.each([
    ["a value that is too large", 1, [good, { at: 2, values: Float32Array.of(64.001) }], /\brows\[0\].*\b64\b.*\b64\.00/],
    ["NaN", 1, [{ at: 0, values: Float32Array.of(1, Number.NaN) }], /\brows\[1\].*\bNaN\b/],
    ["infinity", 1, [{ at: 0, values: Float32Array.of(Number.POSITIVE_INFINITY) }], /\brows\[0\].*\bInfinity\b/],
    ["more values than there is room for", 1, [good, { at: 2, values: Float32Array.of(1, 1) }], /\b1 values from 2\b.*\b2$/],
    ["more weight than is left", 8, [good], /\bweight\b.*\b7\b.*\b10\b.*\b8$/],
    ["a weight of zero", 0, [good], /weight/],
    ["NaN as a weight", Number.NaN, [good], /weight/],
  ] as const)("%s", (_, weight, parts, message) => {
    const sum = new OrderFreeSum(bounds);
    add(sum, 3, [{ at: 0, values: Float32Array.of(4, 5, 6) }]);
    expect(() => add(sum, weight, parts)).toThrow(RefusedError);
    expect(() => add(sum, weight, parts)).toThrow(message);
    expect(meanOf(sum, 3)).toEqual(Float32Array.of(4, 5, 6));
    add(sum, 7, [{ at: 0, values: Float32Array.of(4, 5, 6) }]);
    expect(meanOf(sum, 10)).toEqual(Float32Array.of(4, 5, 6));
  });

  it("any contribution if its total weight is 0", () => {
    expect(() => add(new OrderFreeSum({ ...bounds, totalWeight: 0 }), 1, [good])).toThrow(RefusedError);
  });
});

describe("an order-free sum over several blocks and memories", () => {
  const length = 3 * BLOCK + 5;
  const [a, b] = ["one", "another"].map((name) => {
    const rng = createRng(deriveSeed(name));
    return Float32Array.from({ length }, () => 128 * rng.next() - 64);
  }) as [Float32Array, Float32Array];
  const parts = [
    { at: 7, values: a.subarray(0, 2 * BLOCK + 1) },
    { at: 2 * BLOCK + 9, values: a.subarray(0, 1) },
    { at: 3 * BLOCK, values: a.subarray(3, 8) },
  ];
  const mean = (options?: SumOptions, spoil?: (sum: OrderFreeSum) => void) => {
    const sum = new OrderFreeSum({ length, largestValue: 64, totalWeight: 10 }, options);
    add(sum, 3, [{ at: 0, values: b }]);
    spoil?.(sum);
    add(sum, 7, parts);
    const target = new Float32Array(length);
    sum.addMeanTo(target.subarray(0, 100), 0, 10);
    sum.addMeanTo(target.subarray(100), 100, 10);
    return { target, sum };
  };
  const expected = mean().target;

  it("agrees with a plain loop over float64", () => {
    const whole = b.map((value) => value * 0.3);
    for (const { at, values } of parts) for (const [index, value] of values.entries()) whole[at + index] = whole[at + index]! + 0.7 * value;
    for (let index = 0; index < length; index++) expect(Math.abs(expected[index]! - whole[index]!)).toBeLessThan(2e-5);
  });

  it.each([
    ["one plain memory", { makeLane: createPlainLane }],
    ["many small memories", { laneLength: 1000 }],
    ["many small plain memories", { laneLength: 1001, makeLane: createPlainLane }],
    ["memories that end within a block", { laneLength: BLOCK + 3 }],
  ])("has the same bytes in %s", (_, options) => {
    expect(mean(options).target).toEqual(expected);
  });

  it("has the same bytes in the reused memory of an earlier sum, whatever its content", () => {
    expect(mean({ spare: mean().sum }).target).toEqual(expected);
    expect(mean({ spare: new OrderFreeSum({ length: 9, largestValue: 1, totalWeight: 1 }) }).target).toEqual(expected);
  });

  it("undoes to the byte a contribution that is refused because of its last value", () => {
    const spoilt = a.slice();
    spoilt[length - 1] = Number.NaN;
    const refused = (sum: OrderFreeSum) =>
      expect(() => add(sum, 7, [{ at: 0, values: spoilt }])).toThrow(new RegExp(`\\brows\\[${length - 1}\\].*\\b64\\b.*\\bNaN\\b`));
    expect(mean({}, refused).target).toEqual(expected);
    expect(mean({ laneLength: 1000, makeLane: createPlainLane }, refused).target).toEqual(expected);
  });

  it("yields to the event loop within contributions of more than 64 MiB, several of which can be added at once", async () => {
    const values = { dtype: "I8X256", length: BLOCK * BLOCKS_A_TURN + 300, bytes: new Uint8Array(0) } as const;
    const bytes = new Uint8Array(encodedBytes(values.dtype, values.length)).fill(60);
    const sum = new OrderFreeSum({ length: values.length, largestValue: 64, totalWeight: 3 });
    const spoilt = bytes.slice().fill(255, -48, -44);
    const first = inTurns(sum.add(1, [{ name: "rows", at: 0, values: { ...values, bytes } }]));
    const refused = inTurns(sum.add(1, [{ name: "rows", at: 0, values: { ...values, bytes: spoilt } }]));
    const second = inTurns(sum.add(1, [{ name: "rows", at: 0, values: { ...values, bytes } }]));
    expect(first).toBeInstanceOf(Promise);
    await expect(refused).rejects.toThrow(`rows[${BLOCK * BLOCKS_A_TURN + 256}]`);
    await Promise.all([first, second]);
    const target = new Float32Array(2);
    sum.addMeanTo(target.subarray(0, 1), 0, 2);
    sum.addMeanTo(target.subarray(1), values.length - 1, 2);
    // The bytes of every scale, and every int8, are 60.
    const value = 60 * (new Float32Array(Uint8Array.of(60, 60, 60, 60).buffer)[0] as number);
    expect([...target]).toEqual([expect.closeTo(value, 6), expect.closeTo(value, 6)]);
  });
});
