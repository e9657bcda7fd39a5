import type { AdapterLayout } from "./layout.ts";

/** An adapter's values at rank r: `rows` [r, layout.width] row by row, `dense` [layout.denseSize]. */
export interface Adapter {
  readonly r: number;
  readonly rows: Float32Array;
  readonly dense: Float32Array;
  readonly merged?: Merged;
}

/** Components merged into the base model: permanently, at every rank (by FLoRA), or for a fit (an acting tail). */
export interface Merged {
  /** [n, layout.width], in the order of the rounds. */
  readonly rows: Float32Array;
  /** ends[t] is their number after round t; ends[0] is 0. Empty for what is sent anew with every fit: an acting tail. */
  readonly ends: readonly number[];
}

/** The rank-r prefix of an adapter: its first r rows and everything merged, as views of the same memory. */
export function prefix(adapter: Adapter, layout: AdapterLayout, r: number): Adapter {
  return { ...adapter, r, rows: adapter.rows.subarray(0, r * layout.width) };
}
