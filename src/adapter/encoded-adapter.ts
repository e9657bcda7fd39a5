import { asFloat32, decode, type Encoded, toBfloat16 } from "../tensor/encoded.ts";
import type { Adapter } from "./adapter.ts";

/** An adapter's tensors in their wire encoding. Merged components are always sent in float32. */
export interface EncodedAdapter {
  readonly r: number;
  readonly rows: Encoded;
  readonly dense: Encoded;
  readonly merged: Encoded;
}

const encodings = new WeakMap<Adapter, EncodedAdapter>();

/**
 * The encoding in which this very object was received or will be sent; else its float32 values in memory. A copy, such as
 * `{ ...adapter, rows }`, is another object, so changed values count.
 */
export function encodingOf(adapter: Adapter): EncodedAdapter {
  const known = encodings.get(adapter);
  if (known) return known;
  const { r, rows, dense, merged } = adapter;
  const encoding = { r, rows: asFloat32(rows), dense: asFloat32(dense), merged: asFloat32(merged?.rows ?? new Float32Array(0)) };
  encodings.set(adapter, encoding);
  return encoding;
}

/** The adapter received as `rows` and `dense`. Values are decoded on first read. */
export function decodeLazily(r: number, rows: Encoded, dense: Encoded, merged?: Adapter["merged"]): Adapter {
  let [rowValues, denseValues]: (Float32Array | undefined)[] = [];
  const adapter = {
    r,
    get rows() {
      return (rowValues ??= decode(rows));
    },
    get dense() {
      return (denseValues ??= decode(dense));
    },
    ...(merged && { merged }),
  };
  encodings.set(adapter, { r, rows, dense, merged: asFloat32(merged?.rows ?? new Float32Array(0)) });
  return adapter;
}

/**
 * Turns the adapters for a round's clients into what they receive: the same in float32, or rounded to the nearest bfloat16.
 * A buffer is rounded once, however many adapters are views of it: prefixes share one copy of the bytes.
 */
export function createDownlink(dtype: "F32" | "BF16"): (adapter: Adapter) => Adapter {
  if (dtype === "F32") return (adapter) => adapter;
  const rounded = new Map<ArrayBufferLike, Uint8Array>();
  const round = ({ buffer, byteOffset, length }: Float32Array): Encoded => {
    const all = rounded.get(buffer) ?? toBfloat16(new Float32Array(buffer, 0, Math.floor(buffer.byteLength / 4))).bytes;
    rounded.set(buffer, all);
    return { dtype, length, bytes: all.subarray(byteOffset / 2, byteOffset / 2 + 2 * length) };
  };
  return ({ r, rows, dense, merged }) => decodeLazily(r, round(rows), round(dense), merged);
}
