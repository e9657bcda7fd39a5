import { expect, it } from "vitest";
import { decodeLazily } from "../../../src/adapter/encoded-adapter.ts";
import { updateNorm } from "../../../src/adapter/update-norm.ts";
import { asFloat32, toBfloat16 } from "../../../src/tensor/encoded.ts";
import { inTurns } from "../../../src/base/turns.ts";

const normOf = (rows: Float32Array, dense: Float32Array) => inTurns(updateNorm({ r: 1, rows, dense }));

it("the norm of an update covers rows and dense together", () => {
  expect(normOf(Float32Array.of(2, -4), Float32Array.of(4))).toBe(6);
  expect(normOf(Float32Array.of(), Float32Array.of())).toBe(0);
});

it("the norm of an update spans many blocks and does not overflow where float32 would", () => {
  expect(normOf(new Float32Array(100_000).fill(3), new Float32Array(21_000).fill(3))).toBeCloseTo(3 * Math.sqrt(121_000), 9);
  expect(normOf(Float32Array.of(2 ** 127, 2 ** 127), new Float32Array())).toBeCloseTo(2 ** 127.5, -30);
});

it("the norm of an update is not finite if a value is not", () => {
  expect(normOf(Float32Array.of(1, Number.NaN), new Float32Array())).toBeNaN();
  expect(normOf(Float32Array.of(1), Float32Array.of(-Infinity))).toBe(Infinity);
});

it("the norm of an update is the same in any wire encoding of its values", () => {
  const values = Float32Array.of(3, -4);
  expect(inTurns(updateNorm(decodeLazily(1, toBfloat16(values), asFloat32(Float32Array.of(12)))))).toBe(13);
});
