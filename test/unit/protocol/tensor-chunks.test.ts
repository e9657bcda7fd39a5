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
/** Bit for bit, so that NaN and −0 count. */
const hex = (values: Encoded | undefined) => (values ? Buffer.from(values.bytes).toString("hex") : "");
const bytes = (length: number) => new Uint8Array(length);

describe("describeTensors", () => {
  test("gives shapes, byte lengths and zlib checksums of the little-endian bytes", () => {
    const one = { r: 1, rows: Float32Array.of(1), dense: new Float32Array() };
    expect(describeTensors(one)).toEqual([
      { name: "rows", dtype: "F32", shape: [1, 1], bytes: 4, crc32: crc32(Uint8Array.of(0, 0, 0x80, 0x3f)), shared: null },
    ]);
    expect(describeTensors(adapter).map(({ name, shape, bytes }) => ({ name, shape, bytes }))).toEqual([
      { name: "rows", shape: [2, 3], bytes: 24 },
      { name: "dense", shape: [2], bytes: 8 },
    ]);
  });

  test("announces and splits what is merged last, and only where something is", () => {
    const merged = { rows: Float32Array.of(1, 2, 3), ends: [0, 1] };
    expect(describeTensors({ ...adapter, merged })[2]).toMatchObject({ name: "merged", shape: [1, 3], bytes: 12 });
    expect([...splitTensors({ ...adapter, merged })].map(({ tensor }) => tensor)).toEqual(["rows", "dense", "merged"]);
    const nothing = { ...adapter, merged: { rows: new Float32Array(0), ends: [0] } };
    expect(describeTensors(nothing)).toEqual(describeTensors(adapter));
    expect([...splitTensors(nothing)]).toEqual([...splitTensors(adapter)]);
  });

  test("describes a prefix by its own bytes, not those of the buffer it is a view of", () => {
    const memory = Float32Array.of(1, 2, 3, 4, 5, 6);
    const view = { r: 1, rows: memory.subarray(0, 3), dense: new Float32Array() };
    const copy = { r: 1, rows: memory.slice(0, 3), dense: new Float32Array() };
    expect(describeTensors(view)).toEqual(describeTensors(copy));
  });
});

describe("createAssembler", () => {
  test("puts back together what was split, whatever the split", () => {
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
          for (const chunk of splitTensors(sent, size)) assembler.write(chunk);
          const received = assembler.finish();
          expect(hex(received.rows)).toBe(hex(asFloat32(rows)));
          expect(hex(received.dense)).toBe(hex(asFloat32(dense)));
        },
      ),
    );
  });

  test("owns what it gives out", () => {
    const assembler = createAssembler(describeTensors(adapter), shapes);
    const data = [...splitTensors(adapter)].map((chunk) => ({ ...chunk, data: chunk.data.slice() }));
    for (const chunk of data) assembler.write(chunk);
    for (const chunk of data) chunk.data.fill(0);
    expect(assembler.finish()).toEqual({ rows: asFloat32(adapter.rows), dense: asFloat32(adapter.dense) });
  });

  test("takes tensors of no bytes", () => {
    const [descriptor] = describeTensors({ r: 1, rows: new Float32Array(), dense: new Float32Array() });
    expect(createAssembler(descriptor ? [descriptor] : [], { rows: [1, 0] }).finish()).toEqual({ rows: asFloat32(new Float32Array()) });
  });

  test.each<[string, readonly TensorDescriptor[], ExpectedShapes, string]>([
    ["a broadcastable shape", [announce({ shape: [1, 3], bytes: 12 })], { rows: [2, 3] }, "tensor rows: expected shape [2, 3], got [1, 3]"],
    ["a transposed shape", [announce({ shape: [3, 2] })], { rows: [2, 3] }, "got [3, 2]"],
    ["a flattened shape", [announce({ shape: [6] })], { rows: [2, 3] }, "got [6]"],
    ["bytes that do not fit the shape", [announce({ bytes: 20 })], { rows: [2, 3] }, "expected 24 bytes of F32, got 20"],
    [
      "another dtype, though its bytes fit its shape",
      [announce({ dtype: "BF16", bytes: 12 })],
      { rows: [2, 3] },
      "expected dtype F32, got BF16",
    ],
    ["a missing tensor", [announce()], shapes, "expected rows and dense, got rows"],
    ["a tensor too many", [announce()], {}, "expected none, got rows"],
    ["a tensor twice", [announce(), announce()], { rows: [2, 3] }, "got rows and rows"],
    ["more than memory has, where any shape goes", [announce({ shape: [2 ** 40], bytes: 2 ** 42 })], "any", "at most"],
  ])("refuses %s before it takes memory", (_, descriptors, expected, said) => {
    expect(() => createAssembler(descriptors, expected)).toThrow(RefusedError);
    expect(() => createAssembler(descriptors, expected)).toThrow(said);
  });

  test.each([
    ["a gap", [{ tensor: "rows", offset: 4, data: bytes(4) }], "expected rows at byte 0, got rows at byte 4"],
    [
      "an overlap",
      [
        { tensor: "rows", offset: 0, data: bytes(8) },
        { tensor: "rows", offset: 4, data: bytes(4) },
      ],
      "expected rows at byte 8, got rows at byte 4",
    ],
    ["tensors out of order", [{ tensor: "dense", offset: 0, data: bytes(8) }], "expected rows at byte 0, got dense at byte 0"],
    ["a chunk past the tensor's end", [{ tensor: "rows", offset: 0, data: bytes(25) }], "1 to 24 bytes, got 25"],
    ["an empty chunk", [{ tensor: "rows", offset: 0, data: bytes(0) }], "1 to 24 bytes, got 0"],
    [
      "a chunk after the last",
      [
        { tensor: "rows", offset: 0, data: bytes(24) },
        { tensor: "dense", offset: 0, data: bytes(8) },
        { tensor: "dense", offset: 8, data: bytes(1) },
      ],
      "every byte was there",
    ],
  ] as const)("refuses %s", (_, chunks, said) => {
    const assembler = createAssembler(describeTensors(adapter), shapes);
    const write = () => chunks.forEach((chunk) => assembler.write(chunk));
    expect(write).toThrow(said);
  });

  test("refuses an end that comes too early", () => {
    const assembler = createAssembler(describeTensors(adapter), shapes);
    for (const chunk of [...splitTensors(adapter)].slice(0, 1)) assembler.write(chunk);
    expect(() => assembler.finish()).toThrow("tensor dense: expected 8 bytes, got 0");
  });

  test("refuses one flipped bit", () => {
    const assembler = createAssembler(describeTensors(adapter), shapes);
    for (const chunk of splitTensors(adapter)) {
      const data = chunk.data.slice();
      if (chunk.tensor === "rows") data[5] = (data[5] ?? 0) ^ 1;
      assembler.write({ ...chunk, data });
    }
    expect(() => assembler.finish()).toThrow("tensor rows: expected crc32");
  });
});
