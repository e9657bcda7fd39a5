import type { FloatTensor } from "../tensor/safetensors.ts";
import type { Adapter } from "./adapter.ts";
import type { AdapterLayout } from "./layout.ts";

/** The base model's path inside PEFT's wrapper. */
const PREFIX = "base_model.model.";

/** What a worker reports about the model that it wrapped. */
export interface PeftIdentity {
  /** Such as `CAUSAL_LM`; null is PEFT's plain model. */
  readonly taskType: string | null;
  /** Names of the modules that are trained in full. */
  readonly modulesToSave: readonly string[];
}

/** Whether its losses are per token. */
export function isLanguage({ taskType }: PeftIdentity): boolean {
  return taskType === "CAUSAL_LM" || taskType === "SEQ_2_SEQ_LM";
}

export interface AdapterConfigInput {
  readonly layout: AdapterLayout;
  readonly r: number;
  readonly lora: { readonly lora_dropout: number };
  readonly baseModel: string;
  readonly peft: PeftIdentity;
}

/** `adapter_config.json` of the rank-r prefix. lora_alpha = s·r, so that PEFT's lora_alpha / r is s at every rank. */
export function adapterConfig({ layout, r, lora, baseModel, peft }: AdapterConfigInput): Readonly<Record<string, unknown>> {
  return {
    peft_type: "LORA",
    task_type: peft.taskType,
    base_model_name_or_path: baseModel,
    inference_mode: true,
    r,
    lora_alpha: layout.scale * r,
    lora_dropout: lora.lora_dropout,
    bias: "none",
    use_rslora: false,
    // Whole names: what was adapted, however the run's config described it.
    target_modules: layout.modules.map(({ name }) => name),
    modules_to_save: peft.modulesToSave.length > 0 ? [...peft.modulesToSave] : null,
  };
}

/** A tensor whose values are copied from an adapter as they are asked for. */
export interface PeftTensor extends FloatTensor {
  /** The values in order, in pieces of about a MiB: writing a file takes no second copy of the adapter. */
  pieces(): Iterable<Float32Array>;
}

/** Tensors of `adapter_model.safetensors` for the rank-r prefix, by PEFT's names: lora_A [r, in], lora_B [out, r]. */
export function peftTensors(layout: AdapterLayout, adapter: Adapter, r: number): ReadonlyMap<string, PeftTensor> {
  const tensors = new Map<string, PeftTensor>();
  for (const module of layout.modules) {
    const name = `${PREFIX}${module.name}`;
    const rows = Array.from({ length: r }, (_, row) => {
      const start = row * layout.width + module.offset;
      return adapter.rows.subarray(start, start + module.in + module.out);
    });
    const fillA: Fill = (values, from, to) => {
      for (let index = from; index < to; index++)
        values.set((rows[index] as Float32Array).subarray(0, module.in), (index - from) * module.in);
    };
    const fillB: Fill = (values, from, to) => {
      for (const [index, row] of rows.entries()) {
        for (let out = from; out < to; out++) values[(out - from) * r + index] = row[module.in + out] as number;
      }
    };
    tensors.set(`${name}.lora_A.weight`, inPieces([r, module.in], fillA));
    tensors.set(`${name}.lora_B.weight`, inPieces([module.out, r], fillB));
  }
  for (const { name, shape, offset } of layout.dense) {
    const size = shape.reduce((product, side) => product * side, 1);
    const values = adapter.dense.subarray(offset, offset + size);
    tensors.set(`${PREFIX}${name}`, { shape, values, pieces: () => [values] });
  }
  return tensors;
}

/** Writes rows [from, to) of a matrix. */
type Fill = (values: Float32Array, from: number, to: number) => void;

/** Values of a piece. */
const PIECE = 2 ** 18;

function inPieces(shape: readonly [height: number, width: number], fill: Fill): PeftTensor {
  const [height, width] = shape;
  const piece = (from: number, to: number) => {
    const values = new Float32Array((to - from) * width);
    fill(values, from, to);
    return values;
  };
  const step = Math.max(1, Math.floor(PIECE / width));
  return {
    shape,
    get values() {
      return piece(0, height);
    },
    *pieces() {
      for (let from = 0; from < height; from += step) yield piece(from, Math.min(height, from + step));
    },
  };
}
