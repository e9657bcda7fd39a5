/*
 * Which adapters loaders other than PEFT and transformers refuse, judged by the adapter's files. From their sources, as of
 * November 2026: vLLM's vllm/lora/peft_helper.py, vllm/lora/lora_model.py and vllm/config/lora.py, and llama.cpp's
 * convert_lora_to_gguf.py. Our exports are plain LoRA at one rank, so their other rules cannot be broken.
 */

export interface AdapterFiles {
  readonly r: number;
  /** Modules that were trained in full. */
  readonly modulesToSave: readonly string[];
  /** Names of the tensors in adapter_model.safetensors. */
  readonly tensors: readonly string[];
  /** Whether the base is prelort's own MeanPooledClassifier, which no other loader knows, merged or not. */
  readonly isPooled: boolean;
}

/** A sentence for each loader that does not accept an adapter as it is, with what to do. */
export function remarksOnLoaders({ r, modulesToSave, tensors, isPooled }: AdapterFiles): readonly string[] {
  const others = tensors.filter((name) => !/\.lora_[AB]\.weight$/.test(name));
  const remarks: string[] = [];
  const instead = isPooled ? "" : "; --merge writes a whole model instead";
  if (modulesToSave.length > 0 || others.length > 0) {
    const names = modulesToSave.length > 0 ? modulesToSave : others;
    remarks.push(`vLLM cannot load it: it takes no modules that were trained in full (${names.join(", ")})${instead}`);
  } else if (r > DEFAULT_MAX_LORA_RANK) {
    const enough = MAX_LORA_RANKS.find((most) => most >= r);
    const remedy = enough ? `needs --max-lora-rank ${enough} to load it` : `cannot load it: it takes ranks up to ${MAX_LORA_RANKS.at(-1)}`;
    remarks.push(`vLLM ${remedy}`);
  }
  const strange = others.filter((name) => !/_layernorm|\.norm/.test(name));
  if (strange.length > 0) {
    remarks.push(`llama.cpp cannot convert it: it takes lora_A and lora_B alone, and this adapter has ${strange.join(", ")}${instead}`);
  }
  return remarks;
}

const MAX_LORA_RANKS = [1, 8, 16, 32, 64, 128, 256, 320, 512];
const DEFAULT_MAX_LORA_RANK = 16;
