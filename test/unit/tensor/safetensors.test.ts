import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { RefusedError } from "../../../src/errors.ts";
import { decodeSafetensors, encodeSafetensors } from "../../../src/tensor/safetensors.ts";

/** A file with this header, verbatim, and this many bytes of data. */
function file(header: string, dataBytes: number, headerLength = header.length): Uint8Array {
  const bytes = new Uint8Array(8 + header.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerLength), true);
  bytes.set(new TextEncoder().encode(header), 8);
  return bytes;
}

const scalar = { dtype: "F32", shape: [1], data_offsets: [0, 4] };

describe("encodeSafetensors", () => {
  it("writes the header's length, the header padded to 8 bytes, and the values little-endian", () => {
    const bytes = Buffer.concat(encodeSafetensors(new Map([["w", { shape: [1, 2], values: Float32Array.of(1, -2) }]]), { format: "pt" }));
    const header = '{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}';
    const padded = header.padEnd(88);
    expect(new Uint8Array(bytes)).toEqual(
      Uint8Array.of(88, 0, 0, 0, 0, 0, 0, 0, ...new TextEncoder().encode(padded), 0, 0, 128, 63, 0, 0, 0, 192),
    );
  });

  it("gives the same bytes for any order of tensors and metadata", () => {
    const [a, b] = [
      { shape: [1], values: Float32Array.of(1) },
      { shape: [2], values: Float32Array.of(2, 3) },
    ];
    const inOrder = Buffer.concat(
      encodeSafetensors(
        new Map([
          ["a", a],
          ["b", b],
        ]),
        { x: "1", y: "2" },
      ),
    );
    const reversed = Buffer.concat(
      encodeSafetensors(
        new Map([
          ["b", b],
          ["a", a],
        ]),
        { y: "2", x: "1" },
      ),
    );
    expect(reversed).toEqual(inOrder);
  });

  it("refuses a tensor with values that do not fill its shape", () => {
    const wrong = new Map([["w", { shape: [2, 3], values: new Float32Array(5) }]]);
    expect(() => Buffer.concat(encodeSafetensors(wrong, {}))).toThrow(/\btensor w\b.*\bF32\b.*\[2, 3\].*\b24 bytes\b.*\b20\b/);
  });
});

describe("decodeSafetensors", () => {
  const name = fc.string({ unit: "grapheme", maxLength: 8 }).filter((text) => text !== "__metadata__" && text !== "__proto__");
  const tensor = fc.array(fc.float(), { maxLength: 6 }).map((values) => ({ shape: [values.length], values: Float32Array.from(values) }));
  const tensors = fc.dictionary(name, tensor, { maxKeys: 4 }).map((record) => new Map(Object.entries(record)));
  const metadata = fc.dictionary(name, fc.string());

  it("reads back what was written, at any alignment in memory", () => {
    fc.assert(
      fc.property(tensors, metadata, fc.integer({ min: 0, max: 7 }), (written, notes, shift) => {
        const bytes = Buffer.concat(encodeSafetensors(written, notes));
        const moved = Buffer.alloc(bytes.length + shift);
        moved.set(bytes, shift);
        const read = decodeSafetensors(moved.subarray(shift));
        expect(read.metadata).toEqual({ ...notes });
        expect(new Map(read.tensors)).toEqual(written);
      }),
    );
  });

  it("copies only tensors that are not aligned for float32", () => {
    const bytes = Buffer.concat(encodeSafetensors(new Map([["w", { shape: [1], values: Float32Array.of(1) }]]), {}));
    expect(decodeSafetensors(bytes).tensors.get("w")?.values.buffer).toBe(bytes.buffer);
    const moved = new Uint8Array(bytes.length + 1);
    moved.set(bytes, 1);
    const { values } = decodeSafetensors(moved.subarray(1)).tensors.get("w") ?? {};
    moved.fill(0);
    expect(values).toEqual(Float32Array.of(1));
  });

  it("accepts empty tensors between others, in any order of the header", () => {
    const header = { b: { ...scalar }, empty: { dtype: "F32", shape: [0, 3], data_offsets: [0, 0] } };
    expect([...decodeSafetensors(file(JSON.stringify(header), 4)).tensors.keys()]).toEqual(["empty", "b"]);
  });

  it.each<readonly [string, Uint8Array, RegExp]>([
    ["a file too short for the header's length", new Uint8Array(7), /\bx\.safetensors\b.*\b8 bytes\b.*\b7\b/],
    ["a header longer than the file", file("{}", 0, 3), /\bheader of x\.safetensors\b.*\b2 bytes\b.*\b3\b/],
    ["a header larger than any memory", file("{}", 0, 2 ** 53), /\bheader of x\.safetensors\b/],
    ["a header that is not JSON", file("{]", 0), /\bheader of x\.safetensors\b.*\bJSON\b/],
    ["a header without a tensor's shape", file('{"w":{"dtype":"F32"}}', 0), /shape/],
    [
      "another dtype",
      file(JSON.stringify({ w: { ...scalar, dtype: "BF16", data_offsets: [0, 2] } }), 2),
      /\btensor w of x\.safetensors\b.*\bF32\b.*\bBF16\b/,
    ],
    [
      "a shape that does not fit its bytes",
      file(JSON.stringify({ w: { ...scalar, shape: [2] } }), 4),
      /\btensor w\b.*\b0 to 8\b.*\[2\].*\b0 to 4\b/,
    ],
    ["overlapping tensors", file(JSON.stringify({ v: scalar, w: scalar }), 4), /\btensor w\b.*\b4 to 8\b.*\b0 to 4\b/],
    ["a gap", file(JSON.stringify({ w: { ...scalar, data_offsets: [4, 8] } }), 8), /\b0 to 4\b.*\b4 to 8\b/],
    ["truncated data", file(JSON.stringify({ w: scalar }), 3), /\bdata of x\.safetensors\b.*\b4 bytes\b.*\b3\b/],
    ["extra data", file(JSON.stringify({ w: scalar }), 5), /\bdata of x\.safetensors\b.*\b4 bytes\b.*\b5\b/],
    ["a negative size", file(JSON.stringify({ w: { ...scalar, shape: [-1, -1] } }), 4), /shape/],
  ])("refuses %s", (_, bytes, message) => {
    expect(() => decodeSafetensors(bytes, "x.safetensors")).toThrow(RefusedError);
    expect(() => decodeSafetensors(bytes, "x.safetensors")).toThrow(message);
  });
});
