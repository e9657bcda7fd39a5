import { describe, expect, it } from "vitest";
import { decodeGlobal, encodeGlobal } from "../../../src/adapter/global-file.ts";
import { createLayout } from "../../../src/adapter/layout.ts";
import { RefusedError } from "../../../src/errors.ts";
import { decodeSafetensors, encodeSafetensors, type FloatTensor } from "../../../src/tensor/safetensors.ts";
import { awkwardAdapter } from "../../support/federations.ts";

const layoutOf = (denseShapes: readonly (readonly number[])[]) =>
  createLayout(
    { r: 3, tiers: [1, 3], scale: 0.1 },
    {
      modules: [
        { name: "layer.q", in: 4, out: 4 },
        { name: "layer.v", in: 4, out: 3 },
      ],
      dense: denseShapes.map((shape, index) => ({ name: `head.${index}`, shape })),
    },
  );

describe("a global adapter's file", () => {
  it.each([[[]], [[[2, 4], [2]]]])("preserves layout, values and round, with dense parameters %j", (shapes) => {
    const layout = layoutOf(shapes);
    const adapter = awkwardAdapter(layout, 3, "global");
    expect(decodeGlobal(Buffer.concat(encodeGlobal(layout, adapter, 7)))).toEqual({ layout, adapter, round: 7 });
  });

  it("preserves the merged components and their number after each round", () => {
    const layout = layoutOf([[2]]);
    for (const ends of [
      [0, 0],
      [0, 2, 5],
    ]) {
      const merged = { rows: awkwardAdapter(layout, ends.at(-1)!, "merged").rows, ends };
      const adapter = { ...awkwardAdapter(layout, 3, "global"), merged };
      expect(decodeGlobal(Buffer.concat(encodeGlobal(layout, adapter, 2)))).toEqual({ layout, adapter, round: 2 });
    }
  });

  it("has rows [R, width] and dense [size] for any reader of safetensors", () => {
    const layout = layoutOf([[2, 4], [2]]);
    const { tensors } = decodeSafetensors(Buffer.concat(encodeGlobal(layout, awkwardAdapter(layout, 3, "global"), 0)));
    expect([...tensors].map(([name, { shape }]) => [name, shape])).toEqual([
      ["dense", [10]],
      ["rows", [3, 15]],
    ]);
  });

  const layout = layoutOf([[2]]);
  const { tensors, metadata } = decodeSafetensors(Buffer.concat(encodeGlobal(layout, awkwardAdapter(layout, 3, "global"), 0)));
  const file = (change: Record<string, FloatTensor>, notes: Record<string, string> = metadata) =>
    Buffer.concat(encodeSafetensors(new Map([...tensors, ...Object.entries(change)]), notes));
  it.each<readonly [string, Uint8Array, RegExp]>([
    ["with another width", file({ rows: { shape: [3, 5], values: new Float32Array(15) } }), /\btensor rows of g\b.*\[3,15\].*\[3,5\]/],
    ["without a head", Buffer.concat(encodeSafetensors(new Map([...tensors].slice(1)), metadata)), /\btensor dense of g\b.*\[2\]/],
    [
      "with fewer merged components than its metadata says",
      file({ merged: { shape: [1, 15], values: new Float32Array(15) } }, { ...metadata, merged_ends: "[0,2]" }),
      /\btensor merged of g\b.*\[2,15\].*\[1,15\]/,
    ],
    ["with ends that are not numbers", file({}, { ...metadata, merged_ends: '["two"]' }), /\bmetadata of g\b.*\bmerged_ends\b/],
    [
      "with an impossible layout",
      file({}, { ...metadata, layout: (metadata["layout"] ?? "").replace('"in":4', '"in":1') }),
      /\blayout of g\b.*\blora\.r\b/s,
    ],
    ["without a layout", file({}, { round: "1" }), /\bmetadata of g\b.*\blayout\b/],
    ["with a layout that is not JSON", file({}, { ...metadata, layout: "{" }), /\bmetadata of g\b.*\blayout\b/],
    ["with a round that is not a number", file({}, { ...metadata, round: "one" }), /\bmetadata of g\b.*\bround\b.*\bround\b/],
  ])("is refused %s", (_, bytes, message) => {
    expect(() => decodeGlobal(bytes, "g")).toThrow(RefusedError);
    expect(() => decodeGlobal(bytes, "g")).toThrow(message);
  });
});
