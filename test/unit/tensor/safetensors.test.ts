import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { RefusedError } from "../../../src/errors.ts";
import { decodeSafetensors, encodeSafetensors } from "../../../src/tensor/safetensors.ts";

/** A file of this header, as it stands, and that many bytes of data. */
function file(header: string, dataBytes: number, headerLength = header.length): Uint8Array {
  const bytes = new Uint8Array(8 + header.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerLength), true);
  bytes.set(new TextEncoder().encode(header), 8);
  return bytes;
}

const one = { dtype: "F32", shape: [1], data_offsets: [0, 4] };

describe("encodeSafetensors", () => {
  it("writes the header's length, the header padded to 8 bytes, and the values little-endian", () => {
    const bytes = Buffer.concat(encodeSafetensors(new Map([["w", { shape: [1, 2], values: Float32Array.of(1, -2) }]]), { format: "pt" }));
    const header = '{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}';
    const padded = header.padEnd(88);
    expect(new Uint8Array(bytes)).toEqual(
      Uint8Array.of(88, 0, 0, 0, 0, 0, 0, 0, ...new TextEncoder().encode(padded), 0, 0, 128, 63, 0, 0, 0, 192),
    );
  });

  it("gives the same bytes in whatever order tensors and metadata come", () => {
    const [a, b] = [
      { shape: [1], values: Float32Array.of(1) },
      { shape: [2], values: Float32Array.of(2, 3) },
    ];
    const forth = Buffer.concat(
      encodeSafetensors(
        new Map([
          ["a", a],
          ["b", b],
        ]),
        { x: "1", y: "2" },
      ),
    );
    const back = Buffer.concat(
      encodeSafetensors(
        new Map([
          ["b", b],
          ["a", a],
        ]),
        { y: "2", x: "1" },
      ),
    );
    expect(back).toEqual(forth);
  });

  it("refuses a tensor whose values do not fill its shape", () => {
    const wrong = new Map([["w", { shape: [2, 3], values: new Float32Array(5) }]]);
    expect(() => Buffer.concat(encodeSafetensors(wrong, {}))).toThrow(
      /tensor w of dtype F32 and shape \[2, 3\]: expected 24 bytes, got 20/,
    );
  });
});

describe("decodeSafetensors", () => {
  const name = fc.string({ unit: "grapheme", maxLength: 8 }).filter((text) => text !== "__metadata__" && text !== "__proto__");
  const tensor = fc.array(fc.float(), { maxLength: 6 }).map((values) => ({ shape: [values.length], values: Float32Array.from(values) }));
  const tensors = fc.dictionary(name, tensor, { maxKeys: 4 }).map((record) => new Map(Object.entries(record)));
  const metadata = fc.dictionary(name, fc.string());

  it("reads back what was written, wherever it lies in memory", () => {
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

  it("copies only what is not aligned for float32", () => {
    const bytes = Buffer.concat(encodeSafetensors(new Map([["w", { shape: [1], values: Float32Array.of(1) }]]), {}));
    expect(decodeSafetensors(bytes).tensors.get("w")?.values.buffer).toBe(bytes.buffer);
    const moved = new Uint8Array(bytes.length + 1);
    moved.set(bytes, 1);
    const { values } = decodeSafetensors(moved.subarray(1)).tensors.get("w") ?? {};
    moved.fill(0);
    expect(values).toEqual(Float32Array.of(1));
  });

  it("takes empty tensors that lie between others, in any order of the header", () => {
    const header = { b: { ...one }, empty: { dtype: "F32", shape: [0, 3], data_offsets: [0, 0] } };
    expect([...decodeSafetensors(file(JSON.stringify(header), 4)).tensors.keys()]).toEqual(["empty", "b"]);
  });

  it.each<readonly [string, Uint8Array, RegExp]>([
    ["too short for a length", new Uint8Array(7), /x\.safetensors: expected at least 8 bytes, got 7/],
    ["a header longer than the file", file("{}", 0, 3), /header of x\.safetensors: expected at most 2 bytes, got 3/],
    ["a header beyond any memory", file("{}", 0, 2 ** 53), /header of x\.safetensors/],
    ["a header that is no JSON", file("{]", 0), /JSON that describes tensors/],
    ["a header that describes no tensors", file('{"w":{"dtype":"F32"}}', 0), /shape/],
    [
      "another dtype",
      file(JSON.stringify({ w: { ...one, dtype: "BF16", data_offsets: [0, 2] } }), 2),
      /tensor w of x\.safetensors: expected dtype F32, got BF16/,
    ],
    [
      "a shape that does not fit its bytes",
      file(JSON.stringify({ w: { ...one, shape: [2] } }), 4),
      /tensor w .* bytes 0 to 8 for shape \[2\], got 0 to 4/,
    ],
    ["overlapping tensors", file(JSON.stringify({ v: one, w: one }), 4), /tensor w .* bytes 4 to 8 .* got 0 to 4/],
    ["a gap", file(JSON.stringify({ w: { ...one, data_offsets: [4, 8] } }), 8), /bytes 0 to 4 .* got 4 to 8/],
    ["data that is cut off", file(JSON.stringify({ w: one }), 3), /the data of x\.safetensors: expected 4 bytes, got 3/],
    ["data that nothing describes", file(JSON.stringify({ w: one }), 5), /expected 4 bytes, got 5/],
    ["a negative size", file(JSON.stringify({ w: { ...one, shape: [-1, -1] } }), 4), /shape/],
  ])("refuses %s", (_, bytes, message) => {
    expect(() => decodeSafetensors(bytes, "x.safetensors")).toThrow(RefusedError);
    expect(() => decodeSafetensors(bytes, "x.safetensors")).toThrow(message);
  });
});
