import type { AdapterLayout } from "./layout.ts";

/** Σ over the modules of ‖B[:, from:to]‖_F·‖A[from:to, :]‖_F, in float64: an upper bound of the norm of the tail's product. */
export function tailNorm({ modules, width }: AdapterLayout, rows: Float32Array, from: number, to: number): number {
  let sum = 0;
  for (const module of modules) {
    let [a, b] = [0, 0];
    for (let row = from; row < to; row++) {
      const start = row * width + module.offset;
      a += squares(rows, start, start + module.in);
      b += squares(rows, start + module.in, start + module.in + module.out);
    }
    sum += Math.sqrt(a) * Math.sqrt(b);
  }
  return sum;
}

function squares(values: Float32Array, start: number, end: number): number {
  let sum = 0;
  for (let index = start; index < end; index++) sum += (values[index] as number) ** 2;
  return sum;
}
