import { readFileSync } from "node:fs";
import path from "node:path";
import * as fc from "fast-check";
import { describe, expect, it, test } from "vitest";
import { RefusedError } from "../../../src/errors.ts";
import { inTurns } from "../../../src/base/turns.ts";
import { updateNorm } from "../../../src/adapter/update-norm.ts";
import { decodeLazily } from "../../../src/adapter/encoded-adapter.ts";
import { asFloat32, type Dtype, type IntegerDtype, encodedBytes } from "../../../src/tensor/encoded.ts";
import { createLane } from "../../../src/tensor/create-fold-kernel.ts";
import { createPlainLane } from "../../../src/tensor/plain-fold-kernel.ts";
import { decodeIntegers, type EncodedIntegers } from "../../../src/tensor/integers.ts";
import { OrderFreeSum } from "../../../src/tensor/order-free-sum.ts";

interface Golden {
  readonly resolution: number;
  readonly members: readonly { readonly dtype: Dtype; readonly weight: number; readonly encoded: string; readonly norm: number }[];
  readonly sum: { readonly dtype: IntegerDtype; readonly encoded: string };
}

const golden = JSON.parse(readFileSync(path.join(import.meta.dirname, "../../fixtures/wire/sums.json"), "utf8")) as readonly Golden[];
const LENGTH = 300;

function integersOf({ dtype, encoded }: Golden["sum"]): EncodedIntegers {
  return { dtype, length: LENGTH, bytes: Buffer.from(encoded, "hex") };
}

/** Bounds whose resolution is this one. */
function boundsFor(resolution: number) {
  return { length: LENGTH, largestValue: 64, totalWeight: 2 ** 51 / resolution / 64 };
}

describe("a partial sum that a Python worker made", () => {
  it.each(golden)(
    "with resolution $resolution, in $sum.dtype, gives the bytes of the updates added one by one",
    ({ resolution, members, sum }) => {
      const [each, merged] = [new OrderFreeSum(boundsFor(resolution)), new OrderFreeSum(boundsFor(resolution))];
      expect(each.resolution).toBe(resolution);
      for (const { dtype, weight, encoded } of members) {
        void inTurns(each.add(weight, [{ name: "rows", at: 0, values: { dtype, length: LENGTH, bytes: Buffer.from(encoded, "hex") } }]));
      }
      void inTurns(merged.merge(4, members.length, [{ name: "rows", at: 0, values: integersOf(sum) }]));
      const means = [each, merged].map((total) => {
        const target = new Float32Array(LENGTH);
        total.addMeanTo(target, 0, 4);
        return Buffer.from(target.buffer).toString("hex");
      });
      expect(means[1]).toBe(means[0]);
      expect(Buffer.from(means[0] ?? "", "hex").some((byte) => byte !== 0)).toBe(true);
    },
  );

  it.each(golden)("comes with the norms that the controller would compute, to the last bit", ({ members }) => {
    for (const { dtype, encoded, norm } of members) {
      const update = decodeLazily(1, { dtype, length: LENGTH, bytes: Buffer.from(encoded, "hex") }, asFloat32(new Float32Array(0)));
      expect(inTurns(updateNorm(update))).toBe(norm);
    }
  });

  test("is of integers of every width between them", () => {
    expect(new Set(golden.map(({ sum }) => sum.dtype))).toEqual(new Set(["I8", "I16", "I24", "I32", "I40", "I48"]));
  });
});

test.each(["I8", "I16", "I24", "I32", "I40", "I48", "I56"] as const)(
  "integers in %s are read as they were written, in blocks too",
  (dtype) => {
    const bits = 8 * encodedBytes(dtype, 1);
    const integer = fc.bigInt({ min: -(2n ** BigInt(Math.min(bits, 54) - 1)), max: 2n ** BigInt(Math.min(bits, 54) - 1) - 1n });
    fc.assert(
      fc.property(fc.array(integer, { minLength: 1, maxLength: 20 }), fc.nat(19), (values, from) => {
        const width = bits / 8;
        const bytes = new Uint8Array(width * values.length);
        for (const [index, value] of values.entries()) {
          bytes.set(new Uint8Array(BigInt64Array.of(value).buffer).subarray(0, width), width * index);
        }
        const encoded = { dtype, length: values.length, bytes };
        const target = new Float64Array(Math.max(0, values.length - from));
        decodeIntegers(target, encoded, Math.min(from, values.length));
        expect([...target]).toEqual(values.slice(from).map(Number));
        for (const lane of [createLane(values.length), createPlainLane(values.length)]) {
          lane.takeIntegers(encoded, 0, values.length);
          lane.addIntegers(0, values.length, 0);
          expect([...lane.integers]).toEqual(values.map(Number));
          const largest = Math.max(...values.map((value) => Math.abs(Number(value))));
          expect(lane.firstImpossible(largest)).toBeUndefined();
          const first = values.findIndex((value) => Math.abs(Number(value)) === largest);
          const beyond = { index: largest === 0 ? 0 : first, value: Number(values[first]) };
          expect(lane.firstImpossible(largest - 1)).toEqual(beyond);
        }
      }),
    );
  },
);

describe("a partial sum is refused, and nothing of it is added,", () => {
  const merge = (sum: OrderFreeSum, weight: number, integers: readonly number[], members = 1) => {
    const values = new Float64Array(integers);
    const encoded = { dtype: "F64", length: values.length, bytes: new Uint8Array(values.buffer) } as const;
    void inTurns(sum.merge(weight, members, [{ name: "rows", at: 0, values: encoded }]));
  };
  const bounds = { length: 3, largestValue: 64, totalWeight: 10 };
  const mean = (sum: OrderFreeSum) => {
    const target = new Float32Array(3);
    sum.addMeanTo(target, 0, 1);
    return [...target];
  };

  it.each([
    ["if a value is not an integer", [1, 0.5, 0]],
    ["if a value is not a number", [1, 0, Number.NaN]],
    ["if a value is infinite", [1, 0, -Infinity]],
    ["if it is longer than the sum", [1, 0, 0, 0]],
  ])("%s", (_, integers) => {
    const sum = new OrderFreeSum(bounds);
    expect(() => merge(sum, 1, integers)).toThrow(RefusedError);
    expect(mean(sum)).toEqual([0, 0, 0]);
  });

  it("if a value is larger than its members can have made it", () => {
    const sum = new OrderFreeSum(bounds);
    const largest = 64 * 2 * sum.resolution;
    merge(sum, 2, [largest, -largest, 0]);
    expect(mean(sum)).toEqual([128, -128, 0]);
    expect(() => merge(sum, 2, [largest + 2, 0, 0], 2)).toThrow(RefusedError);
    expect(mean(sum)).toEqual([128, -128, 0]);
  });

  it("if its weight exceeds what is left", () => {
    const sum = new OrderFreeSum(bounds);
    merge(sum, 8, [1, 1, 1]);
    expect(() => merge(sum, 3, [1, 1, 1])).toThrow(RefusedError);
    merge(sum, 2, [1, 1, 1]);
  });
});
