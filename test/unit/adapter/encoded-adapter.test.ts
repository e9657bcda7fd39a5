import { describe, expect, it } from "vitest";
import { createDownlink, decodeLazily, encodingOf } from "../../../src/adapter/encoded-adapter.ts";
import { asFloat32, toBfloat16 } from "../../../src/tensor/encoded.ts";

const close = 1 + 2 ** -9;
const adapter = { r: 2, rows: Float32Array.of(1, close, 3, -close), dense: Float32Array.of(close) };
const first = { ...adapter, r: 1, rows: adapter.rows.subarray(0, 2) };

describe("a received adapter", () => {
  const [rows, dense] = [toBfloat16(adapter.rows), asFloat32(adapter.dense)];

  it("has the values that were sent, and keeps their encoding", () => {
    const received = decodeLazily(2, rows, dense);
    expect(received).toEqual({ r: 2, rows: Float32Array.of(1, 1, 3, -1), dense: adapter.dense });
    expect(encodingOf(received)).toMatchObject({ rows, dense });
    expect(received.rows).toBe(received.rows);
  });

  it("loses its encoding in a copy with changed values", () => {
    const received = decodeLazily(2, rows, dense);
    const changed = { ...received, rows: Float32Array.of(5, 6, 7, 8) };
    expect(encodingOf(changed).rows).toEqual(asFloat32(changed.rows));
  });
});

describe("the downlink", () => {
  it("sends the adapter itself in float32", () => {
    expect(createDownlink("F32")(adapter)).toBe(adapter);
  });

  it("rounds rows and dense to the nearest bfloat16 at every rank", () => {
    const downlink = createDownlink("BF16");
    expect(downlink(adapter)).toEqual({ r: 2, rows: Float32Array.of(1, 1, 3, -1), dense: Float32Array.of(1) });
    expect(downlink(first)).toEqual({ r: 1, rows: Float32Array.of(1, 1), dense: Float32Array.of(1) });
  });

  it("gives prefixes of one adapter views of the same bytes", () => {
    const downlink = createDownlink("BF16");
    const [whole, part] = [adapter, first].map((given) => encodingOf(downlink(given)));
    expect(part?.rows.bytes.buffer).toBe(whole?.rows.bytes.buffer);
    expect(part?.rows.bytes).toEqual(whole?.rows.bytes.subarray(0, 4));
  });

  it("rounds the values of a view at any offset of its buffer", () => {
    const memory = Float32Array.of(9, ...adapter.rows, 9);
    const shown = { ...adapter, rows: memory.subarray(1, 5) };
    expect(createDownlink("BF16")(shown).rows).toEqual(Float32Array.of(1, 1, 3, -1));
  });

  it("does not change merged components", () => {
    const merged = { rows: Float32Array.of(close, close), ends: [0, 1] };
    const sent = createDownlink("BF16")({ ...adapter, merged });
    expect(sent.merged).toBe(merged);
    expect(encodingOf(sent).merged).toEqual(asFloat32(merged.rows));
  });
});
