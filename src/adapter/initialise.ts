import { RefusedError } from "../errors.ts";
import { createRng, deriveSeed } from "../base/rng.ts";
import type { Adapter } from "./adapter.ts";
import type { AdapterLayout } from "./layout.ts";

/**
 * The global adapter before round 1, at rank R: A uniform in ±1/√in (PEFT's bound, which does not depend on the rank),
 * B = 0, `dense` from the base model. Every module and row has its own random stream, so no value depends on R or on the
 * other modules.
 */
export function initialAdapter(layout: AdapterLayout, dense: Float32Array, seed: string): Adapter {
  if (dense.length !== layout.denseSize) {
    throw new RefusedError("the initial values of modules_to_save", `${layout.denseSize} values`, `${dense.length}`);
  }
  const rows = new Float32Array(layout.r * layout.width);
  for (const module of layout.modules) {
    const bound = 1 / Math.sqrt(module.in);
    for (let row = 0; row < layout.r; row++) {
      const rng = createRng(deriveSeed(seed, module.name, row));
      const start = row * layout.width + module.offset;
      for (let index = start; index < start + module.in; index++) rows[index] = bound * (2 * rng.next() - 1);
    }
  }
  return { r: layout.r, rows, dense };
}
