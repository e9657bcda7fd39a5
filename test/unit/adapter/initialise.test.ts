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

test("initially A is uniform within ±1/√in and B is zero", () => {
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

test("initial values differ between rows and between modules", () => {
  const rows = [
    ...factorsOf(initialAdapter(layoutOf(8, [q, { ...q, name: "k" }]), none, seed), layoutOf(8, [q, { ...q, name: "k" }])).values(),
  ];
  expect(new Set(rows.flatMap(({ a }) => a.map(String))).size).toBe(16);
});

test("a row's initial values depend neither on R nor on other modules", () => {
  const large = factorsOf(initialAdapter(layoutOf(8), none, seed), layoutOf(8));
  const small = factorsOf(initialAdapter(layoutOf(3, [v]), none, seed), layoutOf(3, [v]));
  expect(small.get("v")?.a).toEqual(large.get("v")?.a.slice(0, 3));
});

test("initial values depend only on the seed", () => {
  expect(initialAdapter(layoutOf(2), none, seed)).toEqual(initialAdapter(layoutOf(2), none, seed));
  expect(initialAdapter(layoutOf(2), none, deriveSeed(2, "adapter")).rows).not.toEqual(initialAdapter(layoutOf(2), none, seed).rows);
});

test("the initial dense values come from the base model and must have the layout's size", () => {
  const dense = Float32Array.of(1, 2, 3);
  expect(initialAdapter(layoutOf(2, [v], 3), dense, seed).dense).toEqual(dense);
  const refusal = { kind: "refused", expected: "4 values", received: "3", message: expect.stringContaining("modules_to_save") };
  expect(() => initialAdapter(layoutOf(2, [v], 4), dense, seed)).toThrow(expect.objectContaining(refusal));
});
