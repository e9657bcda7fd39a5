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

/** Tensors of `adapter_model.safetensors` for the rank-r prefix, by PEFT's names: lora_A [r, in], lora_B [out, r]. */
export function peftTensors(layout: AdapterLayout, adapter: Adapter, r: number): ReadonlyMap<string, FloatTensor> {
  const tensors = new Map<string, FloatTensor>();
  for (const module of layout.modules) {
    const name = `${PREFIX}${module.name}`;
    const a = new Float32Array(r * module.in);
    const b = new Float32Array(module.out * r);
    for (let row = 0; row < r; row++) {
      const start = row * layout.width + module.offset;
      a.set(adapter.rows.subarray(start, start + module.in), row * module.in);
      for (let out = 0; out < module.out; out++) b[out * r + row] = adapter.rows[start + module.in + out] as number;
    }
    tensors.set(`${name}.lora_A.weight`, { shape: [r, module.in], values: a });
    tensors.set(`${name}.lora_B.weight`, { shape: [module.out, r], values: b });
  }
  for (const { name, shape, offset } of layout.dense) {
    const size = shape.reduce((product, side) => product * side, 1);
    tensors.set(`${PREFIX}${name}`, { shape, values: adapter.dense.subarray(offset, offset + size) });
  }
  return tensors;
}
