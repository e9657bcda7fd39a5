import { expect, test } from "vitest";
import { createLayout } from "../../../src/adapter/layout.ts";
import { tailNorm } from "../../../src/adapter/tail-norm.ts";

test("the tail norm is the sum over the modules of ‖B‖·‖A‖ over the tail's components, by hand", () => {
  const modules = [
    { name: "a", in: 2, out: 3 },
    { name: "b", in: 3, out: 2 },
  ];
  const layout = createLayout({ r: 2, tiers: [1, 2], scale: 8 }, { modules, dense: [] });
  const rows = Float32Array.from(
    [
      [3, 4, 1, 2, 2, /* */ 0, 0, 1, 0, 2],
      [0, 12, 0, 4, 0, /* */ 2, 2, 0, 0, 0],
    ].flat(),
  );
  // Component 0: 5·3 + 1·2. Component 1: 12·4 + 0. Both: √(25 + 144)·√(9 + 16) + √(1 + 8)·√4. The scale does not matter.
  expect([tailNorm(layout, rows, 0, 1), tailNorm(layout, rows, 1, 2), tailNorm(layout, rows, 0, 2)]).toEqual([17, 48, 13 * 5 + 3 * 2]);
  expect(tailNorm(layout, rows, 1, 1)).toBe(0);
});
