import path from "node:path";
import type { Adapter } from "../adapter/adapter.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import { adapterConfig, type PeftIdentity, peftTensors } from "../adapter/peft.ts";
import type { RunConfig } from "../config/schema.ts";
import { RefusedError } from "../errors.ts";
import { asFloat32, type Encoded, toBfloat16 } from "../tensor/encoded.ts";
import { toFloat16 } from "../tensor/float16.ts";
import { encodeRaw, type StreamedTensor } from "../tensor/safetensors.ts";
import { writeDurably } from "../records/durable-file.ts";
import { isThere } from "../base/read-file.ts";
import { resolveReference } from "../config/wire-specs.ts";

/** The dtype of exported values. */
export type StoredDtype = "f32" | "bf16" | "f16";

export interface AdapterFolder {
  readonly config: Pick<RunConfig, "model" | "lora">;
  /** What the folder calls the base model. By default what the config does. */
  readonly base?: string | undefined;
  readonly peft: PeftIdentity;
  readonly layout: AdapterLayout;
  /** Without merged components. */
  readonly adapter: Adapter;
  readonly r: number;
  readonly dtype: StoredDtype;
}

/** The folders of a run's adapters below `folder`, by tier. */
export function adapterFolders(folder: string, tiers: readonly number[]): readonly { readonly r: number; readonly directory: string }[] {
  return tiers.map((r) => ({ r, directory: path.join(folder, `r${r}`) }));
}

/** Writes the rank-r prefix of an adapter in PEFT's format; returns the names of its tensors. */
export async function writeAdapterFolder(
  folder: string,
  { config: { lora, model }, base = baseName(model), peft, layout, adapter, r, dtype }: AdapterFolder,
): Promise<readonly string[]> {
  const settings = adapterConfig({ layout, r, lora, baseModel: base, peft });
  const tensors = new Map<string, StreamedTensor>();
  for (const [name, { shape, pieces }] of peftTensors(layout, adapter, r)) {
    const encoded = function* () {
      for (const piece of pieces()) yield encodeAs(dtype, name, piece).bytes;
    };
    tensors.set(name, { dtype: dtype.toUpperCase(), shape, pieces: encoded });
  }
  await writeDurably(path.join(folder, WEIGHTS), encodeRaw(tensors, { format: "pt" }));
  await writeDurably(path.join(folder, SETTINGS), `${JSON.stringify(settings, null, 2)}\n`);
  return [...tensors.keys()];
}

/** Name of a base model on the hub, or its folder. */
export function baseName({ nameOrPath }: Pick<RunConfig["model"], "nameOrPath">): string {
  return resolveReference(nameOrPath, "model.nameOrPath");
}

/** Whether a folder has both files of an adapter. */
export function hasAdapter(folder: string): boolean {
  return [WEIGHTS, SETTINGS].every((name) => isThere(path.join(folder, name)));
}

const WEIGHTS = "adapter_model.safetensors";
const SETTINGS = "adapter_config.json";

function encodeAs(dtype: StoredDtype, name: string, values: Float32Array): Encoded {
  switch (dtype) {
    case "f32":
      return asFloat32(values);
    case "bf16":
      return toBfloat16(values);
    case "f16": {
      const large = values.find((value) => Math.abs(value) >= BEYOND_FLOAT16);
      if (large !== undefined) throw new RefusedError(`${name} as f16`, "values up to 65504; use bf16 or f32", `${large}`);
      return toFloat16(values);
    }
  }
}

/** From this value on, float16 rounds to infinity. */
const BEYOND_FLOAT16 = 65520;
