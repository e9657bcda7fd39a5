import { ConfigError } from "../errors.ts";

/**
 * The memory layout of an adapter. Rank-major rows: an adapter of rank r is one float32 matrix `rows` [r, width]. Row j
 * holds component j of every adapted module in order, `A_m[j, :]` then `B_m[:, j]`. The rank-r prefix is therefore the first
 * r rows, and a segment is a range of rows. Parameters trained in full (`modules_to_save`, a classifier head) are a separate
 * dense vector.
 */
export interface AdapterLayout {
  /** R, the rank of the global adapter. */
  readonly r: number;
  /** Ranks that clients may train at, ascending, the last is R. */
  readonly tiers: readonly number[];
  /** s in ΔW(r) = s · B[:, :r] · A[:r, :]; the same for every client, tier and truncation and for the server. */
  readonly scale: number;
  readonly modules: readonly AdapterModule[];
  /** Floats per row: Σ over modules of (in + out). */
  readonly width: number;
  readonly dense: readonly DenseParameter[];
  /** Floats of the dense vector. */
  readonly denseSize: number;
}

export interface AdapterModule {
  /** The module's name in the base model, e.g. `bert.encoder.layer.0.attention.self.query`. */
  readonly name: string;
  readonly in: number;
  readonly out: number;
  /** Offset of `A_m[j, 0]` in row j; `B_m[0, j]` is at `offset + in`. */
  readonly offset: number;
}

export interface DenseParameter {
  /** The parameter's name in the base model, e.g. `classifier.weight`. */
  readonly name: string;
  readonly shape: readonly number[];
  readonly offset: number;
}

export interface AdapterShape {
  readonly modules: readonly { readonly name: string; readonly in: number; readonly out: number }[];
  readonly dense: readonly { readonly name: string; readonly shape: readonly number[] }[];
}

/** Lays out the modules that a worker found in its base model. Refuses an r larger than an adapted module allows. */
export function createLayout(
  lora: { readonly r: number; readonly tiers: readonly number[]; readonly scale: number },
  shape: AdapterShape,
): AdapterLayout {
  let width = 0;
  const modules = shape.modules.map((module) => {
    const rank = Math.min(module.in, module.out);
    if (lora.r > rank) {
      const message = `must be at most ${rank}, the smaller side of the adapted module ${module.name}, got ${lora.r}`;
      throw new ConfigError([{ path: "lora.r", message }]);
    }
    const offset = width;
    width += module.in + module.out;
    return { name: module.name, in: module.in, out: module.out, offset };
  });
  let denseSize = 0;
  const dense = shape.dense.map((parameter) => {
    const offset = denseSize;
    denseSize += parameter.shape.reduce((product, side) => product * side, 1);
    return { name: parameter.name, shape: parameter.shape, offset };
  });
  return { r: lora.r, tiers: lora.tiers, scale: lora.scale, modules, width, dense, denseSize };
}
