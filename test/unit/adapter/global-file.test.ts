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
  it.each([[[]], [[[2, 4], [2]]]])("gives back layout, values and round, with dense parameters %j", (shapes) => {
    const layout = layoutOf(shapes);
    const adapter = awkwardAdapter(layout, 3, "global");
    expect(decodeGlobal(Buffer.concat(encodeGlobal(layout, adapter, 7)))).toEqual({ layout, adapter, round: 7 });
  });

  it("gives back what is merged, and how much of it there was after each round", () => {
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

  it("holds rows [R, width] and dense [size] for any reader of safetensors", () => {
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
    [
      "of another width",
      file({ rows: { shape: [3, 5], values: new Float32Array(15) } }),
      /tensor rows of g: expected shape \[3,15\], got \[3,5\]/,
    ],
    [
      "without a head",
      Buffer.concat(encodeSafetensors(new Map([...tensors].slice(1)), metadata)),
      /tensor dense of g: expected shape \[2\], got no such tensor/,
    ],
    [
      "with less merged than its metadata says",
      file({ merged: { shape: [1, 15], values: new Float32Array(15) } }, { ...metadata, merged_ends: "[0,2]" }),
      /tensor merged of g: expected shape \[2,15\], got \[1,15\]/,
    ],
    ["with ends that are no numbers", file({}, { ...metadata, merged_ends: '["two"]' }), /metadata of g/],
    [
      "with a layout that no adapter can have",
      file({}, { ...metadata, layout: (metadata["layout"] ?? "").replace('"in":4', '"in":1') }),
      /the layout of g: expected one that an adapter can have/,
    ],
    ["without a layout", file({}, { round: "1" }), /metadata of g: expected a layout and a round/],
    ["with a layout that is no JSON", file({}, { ...metadata, layout: "{" }), /metadata of g/],
    ["with a round that is no number", file({}, { ...metadata, round: "one" }), /metadata of g/],
  ])("is refused %s", (_, bytes, message) => {
    expect(() => decodeGlobal(bytes, "g")).toThrow(RefusedError);
    expect(() => decodeGlobal(bytes, "g")).toThrow(message);
  });
});
