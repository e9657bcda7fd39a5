import type { AdapterLayout } from "../../adapter/layout.ts";
import { productSvd, type Stack } from "../../tensor/product-svd.ts";
import type { Update } from "../strategy.ts";
import { shares } from "./buffered-updates.ts";

/**
 * weight · b·aᵀ in every module, with [a | b] from `row`, or from `row` + `delta` after training. Made by `componentsOf` and
 * `trainedComponents`; a list of them is a sum of products that is never formed.
 */
export interface Component {
  /** May be negative: a product that is taken away. */
  readonly weight: number;
  /** [layout.width], a view: one row of an adapter. */
  readonly row: Float32Array;
  readonly delta?: Float32Array | undefined;
}

/** How `factorise` splits a singular value σ: a·v in A and b·u in B, with a·b = σ. */
export type Split = (value: number) => { readonly a: number; readonly b: number };

/** √σ in both factors, so that neither outgrows the other and one learning rate suits both. */
export const balanced: Split = (value) => ({ a: Math.sqrt(value), b: Math.sqrt(value) });

/**
 * Rows [R, width] whose B·A is, module by module, the best approximation of Σ weight·b·aᵀ at rank R and at every rank
 * below it; both have the same scale s. If the sum has fewer components than R, the rest get the A of `previous`
 * [R, width] and B = 0: this leaves the product unchanged and can learn, unlike A = B = 0. The scale s of the layout is not
 * applied: it is the same before and after. Time: `productSvd` once a module, with m the number of components.
 *
 * Throws a RangeError if a component or `previous` does not have the layout's shape, or a value is not finite.
 */
export function factorise(components: readonly Component[], layout: AdapterLayout, previous: Float32Array, split = balanced): Float32Array {
  requireShapes(components, layout, previous);
  const rows = new Float32Array(layout.r * layout.width);
  for (const { offset, in: a, out: b } of layout.modules) {
    const left = stack(components, offset + a, b, ({ weight }) => weight);
    const right = stack(components, offset, a, () => 1);
    const { values, left: u, right: v } = productSvd(left, right, layout.r);
    for (let row = 0; row < layout.r; row++) {
      const start = row * layout.width + offset;
      const value = values[row];
      if (value === undefined) {
        rows.set(previous.subarray(start, start + a), start);
        continue;
      }
      const share = split(value);
      for (let index = 0; index < a; index++) rows[start + index] = share.a * (v[row * a + index] as number);
      for (let index = 0; index < b; index++) rows[start + a + index] = share.b * (u[row * b + index] as number);
    }
  }
  return rows;
}

function requireShapes(components: readonly Component[], { r, width }: AdapterLayout, previous: Float32Array): void {
  const wrong = components.find(({ row }) => row.length !== width);
  if (wrong) throw new RangeError(`factorise needs components of ${width} values, the layout's width, got one of ${wrong.row.length}`);
  if (previous.length !== r * width)
    throw new RangeError(`factorise needs previous rows of ${r} × ${width} values, got ${previous.length}`);
}

/**
 * The components in `rows` [r, width], as views, each with the weight: together weight·B·A. With `delta` [r, width], those of
 * rows + delta.
 */
export function componentsOf(rows: Float32Array, width: number, weight = 1, delta?: Float32Array): readonly Component[] {
  const row = (values: Float32Array, index: number) => values.subarray(index * width, (index + 1) * width);
  return Array.from({ length: rows.length / width }, (_, index) => ({
    weight,
    row: row(rows, index),
    delta: delta && row(delta, index),
  }));
}

/** Components [from, to) of a client's adapter after its fit, each with the weight: together weight·B_k·A_k if they are all. */
export function trainedComponents({ r, received, delta }: Update, weight: number, from = 0, to = r): readonly Component[] {
  const width = delta.rows.length / r;
  const part = (rows: Float32Array) => rows.subarray(from * width, to * width);
  return componentsOf(part(received.rows), width, weight, part(delta.rows));
}

/** Σ_k p_k·B_k·A_k of the clients after their fits, p_k = n_k / Σ_k n_k. */
export function meanProduct(updates: readonly Update[]): readonly Component[] {
  const p = shares(updates);
  return updates.flatMap((update, index) => trainedComponents(update, p[index] as number));
}

/** `length` values of every row, starting at `at`, times the component's factor. */
function stack(components: readonly Component[], at: number, length: number, factorOf: (component: Component) => number): Stack {
  const vectors = new Float64Array(components.length * length);
  for (const [k, component] of components.entries()) {
    const { row, delta } = component;
    const factor = factorOf(component);
    for (let index = 0; index < length; index++) {
      vectors[k * length + index] = factor * ((row[at + index] as number) + (delta?.[at + index] ?? 0));
    }
  }
  return { vectors, length };
}
