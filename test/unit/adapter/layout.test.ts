import { expect, test } from "vitest";
import { prefix } from "../../../src/adapter/adapter.ts";
import { createLayout } from "../../../src/adapter/layout.ts";
import { segments } from "../../../src/adapter/segments.ts";

const lora = { r: 4, tiers: [1, 2, 4], scale: 2 };
const shape = {
  modules: [
    { name: "q", in: 8, out: 8 },
    { name: "v", in: 8, out: 4 },
  ],
  dense: [
    { name: "head.weight", shape: [3, 8] },
    { name: "head.bias", shape: [3] },
  ],
};

test("a layout puts modules side by side in a row, and dense parameters one after the other", () => {
  const layout = createLayout(lora, shape);
  expect(layout.width).toBe(28);
  expect(layout.modules.map(({ name, offset }) => [name, offset])).toEqual([
    ["q", 0],
    ["v", 16],
  ]);
  expect(layout.denseSize).toBe(27);
  expect(layout.dense.map(({ name, offset }) => [name, offset])).toEqual([
    ["head.weight", 0],
    ["head.bias", 24],
  ]);
});

test("the error for a rank above a module's smaller side names the module", () => {
  const issues = [{ path: "lora.r", message: expect.stringMatching(/\b4\b.*\bmodule v\b.*\b5\b/) }];
  expect(() => createLayout({ ...lora, r: 5, tiers: [5] }, shape)).toThrow(expect.objectContaining({ issues }));
});

test("segments are the components between neighbouring tiers, from 0 to R", () => {
  expect(segments([1, 2, 8])).toEqual([
    { from: 0, to: 1 },
    { from: 1, to: 2 },
    { from: 2, to: 8 },
  ]);
  expect(segments([4])).toEqual([{ from: 0, to: 4 }]);
});

test("a prefix is a view of the first rows, and the prefix of a prefix is the prefix", () => {
  const layout = createLayout(lora, shape);
  const adapter = { r: 4, rows: Float32Array.from({ length: 4 * 28 }, (_, index) => index), dense: new Float32Array(27) };
  const low = prefix(adapter, layout, 1);
  expect(low.rows).toEqual(Float32Array.from({ length: 28 }, (_, index) => index));
  expect(low.rows.buffer).toBe(adapter.rows.buffer);
  expect(prefix(prefix(adapter, layout, 2), layout, 1)).toEqual(low);
});
