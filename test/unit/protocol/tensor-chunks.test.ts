import { crc32 } from "node:zlib";
import { assert, float32Array, integer, property } from "fast-check";
import { describe, expect, test } from "vitest";
import { RefusedError } from "../../../src/errors.ts";
import { createAssembler, describeTensors, type ExpectedShapes, splitTensors } from "../../../src/protocol/tensor-chunks.ts";
import { asFloat32, type Encoded } from "../../../src/tensor/encoded.ts";
import type { TensorDescriptor } from "../../../src/protocol/fields.ts";

const adapter = { r: 2, rows: Float32Array.of(1, 2, 3, 4, 5, 6), dense: Float32Array.of(7, 8) };
const shapes = { rows: [2, 3], dense: [2] };

function announce(overrides: Partial<TensorDescriptor> = {}): TensorDescriptor {
  const [rows] = describeTensors({ r: 2, rows: adapter.rows, dense: new Float32Array() });
  if (!rows) throw new Error("an adapter has rows");
  return { ...rows, ...overrides };
}
/** Bit for bit, to distinguish NaN and −0. */
const hex = (values: Encoded | undefined) => (values ? Buffer.from(values.bytes).toString("hex") : "");
const bytes = (length: number) => new Uint8Array(length);

describe("describeTensors", () => {
  test("returns shapes, byte lengths and zlib checksums of the little-endian bytes", () => {
    const single = { r: 1, rows: Float32Array.of(1), dense: new Float32Array() };
    expect(describeTensors(single)).toEqual([
      { name: "rows", dtype: "F32", shape: [1, 1], bytes: 4, crc32: crc32(Uint8Array.of(0, 0, 0x80, 0x3f)), shared: null },
    ]);
    expect(describeTensors(adapter).map(({ name, shape, bytes }) => ({ name, shape, bytes }))).toEqual([
      { name: "rows", shape: [2, 3], bytes: 24 },
      { name: "dense", shape: [2], bytes: 8 },
    ]);
  });

  test("puts merged components last, and only if there are any", () => {
    const merged = { rows: Float32Array.of(1, 2, 3), ends: [0, 1] };
    expect(describeTensors({ ...adapter, merged })[2]).toMatchObject({ name: "merged", shape: [1, 3], bytes: 12 });
    expect([...splitTensors({ ...adapter, merged })].map(({ tensor }) => tensor)).toEqual(["rows", "dense", "merged"]);
    const nothing = { ...adapter, merged: { rows: new Float32Array(0), ends: [0] } };
    expect(describeTensors(nothing)).toEqual(describeTensors(adapter));
    expect([...splitTensors(nothing)]).toEqual([...splitTensors(adapter)]);
  });

  test("describes a prefix by its own bytes, not by those of the underlying buffer", () => {
    const memory = Float32Array.of(1, 2, 3, 4, 5, 6);
    const view = { r: 1, rows: memory.subarray(0, 3), dense: new Float32Array() };
    const copy = { r: 1, rows: memory.slice(0, 3), dense: new Float32Array() };
    expect(describeTensors(view)).toEqual(describeTensors(copy));
  });
});

describe("createAssembler", () => {
  test("reassembles tensors split into chunks of any size", () => {
    assert(
      property(
        float32Array({ minLength: 1, maxLength: 40 }),
        float32Array({ maxLength: 9 }),
        integer({ min: 1, max: 50 }),
        (rows, dense, size) => {
          const sent = { r: 1, rows, dense };
          const assembler = createAssembler(
            describeTensors(sent),
            dense.length > 0 ? { rows: [1, rows.length], dense: [dense.length] } : { rows: [1, rows.length] },
          );
          for (const chunk of splitTensors(sent, { chunkBytes: size })) assembler.write(chunk);
          const received = assembler.finish();
          expect(hex(received.rows)).toBe(hex(asFloat32(rows)));
          expect(hex(received.dense)).toBe(hex(asFloat32(dense)));
        },
      ),
    );
  });

  test("returns tensors in memory of their own", () => {
    const assembler = createAssembler(describeTensors(adapter), shapes);
    const data = [...splitTensors(adapter)].map((chunk) => ({ ...chunk, data: chunk.data.slice() }));
    for (const chunk of data) assembler.write(chunk);
    for (const chunk of data) chunk.data.fill(0);
    expect(assembler.finish()).toEqual({ rows: asFloat32(adapter.rows), dense: asFloat32(adapter.dense) });
  });

  test("accepts empty tensors", () => {
    const [descriptor] = describeTensors({ r: 1, rows: new Float32Array(), dense: new Float32Array() });
    expect(createAssembler(descriptor ? [descriptor] : [], { rows: [1, 0] }).finish()).toEqual({ rows: asFloat32(new Float32Array()) });
  });

  test.each<[string, readonly TensorDescriptor[], ExpectedShapes, object]>([
    [
      "a broadcastable shape",
      [announce({ shape: [1, 3], bytes: 12 })],
      { rows: [2, 3] },
      { message: expect.stringContaining("tensor rows"), expected: "shape [2, 3]", received: "[1, 3]" },
    ],
    ["a transposed shape", [announce({ shape: [3, 2] })], { rows: [2, 3] }, { received: "[3, 2]" }],
    ["a flattened shape", [announce({ shape: [6] })], { rows: [2, 3] }, { received: "[6]" }],
    ["bytes that do not fit the shape", [announce({ bytes: 20 })], { rows: [2, 3] }, { expected: "24 bytes of F32", received: "20" }],
    [
      "another dtype with bytes that fit its shape",
      [announce({ dtype: "BF16", bytes: 12 })],
      { rows: [2, 3] },
      { expected: "dtype F32", received: "BF16" },
    ],
    ["a missing tensor", [announce()], shapes, { expected: "rows and dense", received: "rows" }],
    ["an extra tensor", [announce()], {}, { expected: "none", received: "rows" }],
    ["a tensor twice", [announce(), announce()], { rows: [2, 3] }, { received: "rows and rows" }],
    [
      "a tensor over 4 GiB when any shape is allowed",
      [announce({ shape: [2 ** 40], bytes: 2 ** 42 })],
      "any",
      { expected: expect.stringContaining(`${2 ** 32} bytes`), received: `${2 ** 42}` },
    ],
  ])("refuses %s before it allocates memory", (_, descriptors, expected, refusal) => {
    expect(() => createAssembler(descriptors, expected)).toThrow(RefusedError);
    expect(() => createAssembler(descriptors, expected)).toThrow(expect.objectContaining(refusal));
  });

  test.each([
    ["a gap", [{ tensor: "rows", offset: 4, data: bytes(4) }], { expected: "rows at byte 0", received: "rows at byte 4" }],
    [
      "an overlap",
      [
        { tensor: "rows", offset: 0, data: bytes(8) },
        { tensor: "rows", offset: 4, data: bytes(4) },
      ],
      { expected: "rows at byte 8", received: "rows at byte 4" },
    ],
    ["tensors out of order", [{ tensor: "dense", offset: 0, data: bytes(8) }], { expected: "rows at byte 0", received: "dense at byte 0" }],
    ["a chunk past the tensor's end", [{ tensor: "rows", offset: 0, data: bytes(25) }], { expected: "1 to 24 bytes", received: "25" }],
    ["an empty chunk", [{ tensor: "rows", offset: 0, data: bytes(0) }], { expected: "1 to 24 bytes", received: "0" }],
    [
      "a chunk after the last",
      [
        { tensor: "rows", offset: 0, data: bytes(24) },
        { tensor: "dense", offset: 0, data: bytes(8) },
        { tensor: "dense", offset: 8, data: bytes(1) },
      ],
      { received: "1 more bytes" },
    ],
  ] as const)("refuses %s", (_, chunks, refusal) => {
    const assembler = createAssembler(describeTensors(adapter), shapes);
    const write = () => chunks.forEach((chunk) => assembler.write(chunk));
    expect(write).toThrow(expect.objectContaining({ kind: "refused", ...refusal }));
  });

  test("refuses an end before all bytes have arrived", () => {
    const assembler = createAssembler(describeTensors(adapter), shapes);
    for (const chunk of [...splitTensors(adapter)].slice(0, 1)) assembler.write(chunk);
    const refusal = { message: expect.stringContaining("tensor dense"), expected: "8 bytes", received: "0" };
    expect(() => assembler.finish()).toThrow(expect.objectContaining(refusal));
  });

  test("refuses a tensor with one flipped bit", () => {
    const assembler = createAssembler(describeTensors(adapter), shapes);
    for (const chunk of splitTensors(adapter)) {
      const data = chunk.data.slice();
      if (chunk.tensor === "rows") data[5] = (data[5] ?? 0) ^ 1;
      assembler.write({ ...chunk, data });
    }
    expect(() => assembler.finish()).toThrow(/\btensor rows\b.*\bcrc32\b/);
  });
});
