import { expect, test } from "vitest";
import { initialAdapter } from "../../../src/adapter/initialise.ts";
import { createLayout } from "../../../src/adapter/layout.ts";
import { deriveSeed } from "../../../src/base/rng.ts";
import { factorsOf } from "../../support/federations.ts";

const q = { name: "q", in: 400, out: 8 };
const v = { name: "v", in: 100, out: 30 };
const layoutOf = (r: number, modules = [q, v], denseSize = 0) =>
  createLayout({ r, tiers: [r], scale: 2 }, { modules, dense: denseSize > 0 ? [{ name: "head", shape: [denseSize] }] : [] });
const seed = deriveSeed(1, "adapter");
const none = new Float32Array(0);

test("A is uniform within ±1/√in, B is zero", () => {
  const factors = factorsOf(initialAdapter(layoutOf(8), none, seed), layoutOf(8));
  for (const module of [q, v]) {
    const { a, b } = factors.get(module.name)!;
    const values = a.flat();
    const bound = 1 / Math.sqrt(module.in);
    const variance = values.reduce((sum, value) => sum + value ** 2, 0) / values.length;
    expect(Math.max(...values.map(Math.abs))).toBeLessThanOrEqual(bound);
    expect(variance / (bound ** 2 / 3)).toBeCloseTo(1, 1);
    expect(b.flat().every((value) => Object.is(value, 0))).toBe(true);
  }
});

test("no two rows, and no two modules, are alike", () => {
  const rows = [
    ...factorsOf(initialAdapter(layoutOf(8, [q, { ...q, name: "k" }]), none, seed), layoutOf(8, [q, { ...q, name: "k" }])).values(),
  ];
  expect(new Set(rows.flatMap(({ a }) => a.map(String))).size).toBe(16);
});

test("neither R nor the other modules change a row", () => {
  const large = factorsOf(initialAdapter(layoutOf(8), none, seed), layoutOf(8));
  const small = factorsOf(initialAdapter(layoutOf(3, [v]), none, seed), layoutOf(3, [v]));
  expect(small.get("v")?.a).toEqual(large.get("v")?.a.slice(0, 3));
});

test("the seed alone decides", () => {
  expect(initialAdapter(layoutOf(2), none, seed)).toEqual(initialAdapter(layoutOf(2), none, seed));
  expect(initialAdapter(layoutOf(2), none, deriveSeed(2, "adapter")).rows).not.toEqual(initialAdapter(layoutOf(2), none, seed).rows);
});

test("dense is what the base model has, of the layout's size", () => {
  const dense = Float32Array.of(1, 2, 3);
  expect(initialAdapter(layoutOf(2, [v], 3), dense, seed).dense).toEqual(dense);
  expect(() => initialAdapter(layoutOf(2, [v], 4), dense, seed)).toThrow(/modules_to_save: expected 4 values, got 3/);
});
