import type { AdapterLayout } from "./layout.ts";

/** An adapter's values at rank r: `rows` [r, layout.width] row by row, `dense` [layout.denseSize]. */
export interface Adapter {
  readonly r: number;
  readonly rows: Float32Array;
  readonly dense: Float32Array;
}

/** The rank-r prefix of an adapter: its first r rows, as views of the same memory. */
export function prefix(adapter: Adapter, layout: AdapterLayout, r: number): Adapter {
  return { r, rows: adapter.rows.subarray(0, r * layout.width), dense: adapter.dense };
}
