import type { Adapter, Merged } from "../../adapter/adapter.ts";
import type { AdapterLayout } from "../../adapter/layout.ts";
import { componentsOf, factorise } from "./factorise.ts";

/** What is merged after another round: its rows [n, width] come after those of earlier rounds. */
export function appendMerged(previous: Merged | undefined, added: Float32Array, { width }: AdapterLayout): Merged {
  const { rows: before, ends } = previous ?? { rows: new Float32Array(0), ends: [0] };
  const rows = new Float32Array(before.length + added.length);
  rows.set(before);
  rows.set(added, before.length);
  return { rows, ends: [...ends, rows.length / width] };
}

/**
 * The adapter that stands for a changed base model: the SVD of all that is merged and of the rows, at rank R, with nothing
 * merged. Its cost grows with the square of the components merged until they reach the module's size.
 */
export function presentMerged(global: Adapter, layout: AdapterLayout): Adapter {
  const { r, rows, dense, merged } = global;
  if (!merged) return global;
  const components = [...componentsOf(merged.rows, layout.width), ...componentsOf(rows, layout.width)];
  return { r, rows: factorise(components, layout, rows), dense };
}
