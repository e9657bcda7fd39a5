import type { AdapterLayout } from "./layout.ts";

/**
 * ‖s·B·A‖²_F of components [from, to), summed over the modules, in float64. The product is never formed:
 * ‖B·A‖²_F = Σ_ij (A·Aᵀ)_ij·(Bᵀ·B)_ij.
 */
export function energy({ modules, width, scale }: AdapterLayout, rows: Float32Array, from: number, to: number): number {
  let sum = 0;
  for (const { offset, in: a, out: b } of modules) {
    for (let i = from; i < to; i++) {
      for (let j = from; j <= i; j++) {
        const [x, y] = [i * width + offset, j * width + offset];
        const term = dot(rows, x, y, a) * dot(rows, x + a, y + a, b);
        sum += j === i ? term : 2 * term;
      }
    }
  }
  // Not negative in exact arithmetic, but rounding may leave it slightly below zero.
  return scale * scale * Math.max(0, sum);
}

function dot(values: Float32Array, x: number, y: number, length: number): number {
  let sum = 0;
  for (let index = 0; index < length; index++) sum += (values[x + index] as number) * (values[y + index] as number);
  return sum;
}
