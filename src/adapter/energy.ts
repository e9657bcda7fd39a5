import type { AdapterLayout } from "./layout.ts";

/**
 * ‖s·B·A‖²_F of components [from, to), summed over the modules, in float64. The product is never formed:
 * ‖B·A‖²_F = Σ_ij (A·Aᵀ)_ij·(Bᵀ·B)_ij.
 */
export function energy({ modules, width, scale }: AdapterLayout, rows: Float32Array, from: number, to: number): number {
  let sum = 0;
  for (const { offset, in: a, out: b } of modules) {
    for (let one = from; one < to; one++) {
      for (let other = from; other <= one; other++) {
        const [x, y] = [one * width + offset, other * width + offset];
        const term = dot(rows, x, y, a) * dot(rows, x + a, y + a, b);
        sum += other === one ? term : 2 * term;
      }
    }
  }
  // A sum of squares in exact arithmetic; rounding may leave it a little below zero.
  return scale * scale * Math.max(0, sum);
}

function dot(values: Float32Array, one: number, other: number, length: number): number {
  let sum = 0;
  for (let index = 0; index < length; index++) sum += (values[one + index] as number) * (values[other + index] as number);
  return sum;
}
