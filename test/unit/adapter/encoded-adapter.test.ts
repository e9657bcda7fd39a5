import { describe, expect, it } from "vitest";
import { createDownlink, decodeLazily, encodingOf } from "../../../src/adapter/encoded-adapter.ts";
import { asFloat32, toBfloat16 } from "../../../src/tensor/encoded.ts";

const close = 1 + 2 ** -9;
const adapter = { r: 2, rows: Float32Array.of(1, close, 3, -close), dense: Float32Array.of(close) };
const first = { ...adapter, r: 1, rows: adapter.rows.subarray(0, 2) };

describe("an adapter that was received", () => {
  const [rows, dense] = [toBfloat16(adapter.rows), asFloat32(adapter.dense)];

  it("has the values that were sent, and remembers how", () => {
    const received = decodeLazily(2, rows, dense);
    expect(received).toEqual({ r: 2, rows: Float32Array.of(1, 1, 3, -1), dense: adapter.dense });
    expect(encodingOf(received)).toMatchObject({ rows, dense });
    expect(received.rows).toBe(received.rows);
  });

  it("is another, and counts as it is, once something in it was changed", () => {
    const received = decodeLazily(2, rows, dense);
    const changed = { ...received, rows: Float32Array.of(5, 6, 7, 8) };
    expect(encodingOf(changed).rows).toEqual(asFloat32(changed.rows));
  });
});

describe("the downlink", () => {
  it("in float32 is the adapter itself", () => {
    expect(createDownlink("F32")(adapter)).toBe(adapter);
  });

  it("in bfloat16 is rounded to nearest, rows and dense, at every rank", () => {
    const downlink = createDownlink("BF16");
    expect(downlink(adapter)).toEqual({ r: 2, rows: Float32Array.of(1, 1, 3, -1), dense: Float32Array.of(1) });
    expect(downlink(first)).toEqual({ r: 1, rows: Float32Array.of(1, 1), dense: Float32Array.of(1) });
  });

  it("gives prefixes of one adapter views of the same bytes", () => {
    const downlink = createDownlink("BF16");
    const [whole, part] = [adapter, first].map((handed) => encodingOf(downlink(handed)));
    expect(part?.rows.bytes.buffer).toBe(whole?.rows.bytes.buffer);
    expect(part?.rows.bytes).toEqual(whole?.rows.bytes.subarray(0, 4));
  });

  it("rounds a view as what it shows, wherever that lies", () => {
    const memory = Float32Array.of(9, ...adapter.rows, 9);
    const shown = { ...adapter, rows: memory.subarray(1, 5) };
    expect(createDownlink("BF16")(shown).rows).toEqual(Float32Array.of(1, 1, 3, -1));
  });

  it("leaves what is merged as it is", () => {
    const merged = { rows: Float32Array.of(close, close), ends: [0, 1] };
    const handed = createDownlink("BF16")({ ...adapter, merged });
    expect(handed.merged).toBe(merged);
    expect(encodingOf(handed).merged).toEqual(asFloat32(merged.rows));
  });
});
