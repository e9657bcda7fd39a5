import path from "node:path";
import { type Adapter, prefix } from "../adapter/adapter.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import { remarksOnLoaders } from "../adapter/export-compatibility.ts";
import type { PeftIdentity } from "../adapter/peft.ts";
import type { RunConfig } from "../config/schema.ts";
import { argumentError } from "../errors.ts";
import { packageVersion } from "../installation.ts";
import { baseName, type StoredDtype, writeAdapterFolder } from "./peft-folder.ts";
import { writeMergedFolder } from "./merged-model-folder.ts";
import { placeFolder } from "./atomic-folder.ts";
import { writeDurably } from "../records/durable-file.ts";

/** The result of a round, with everything needed to export it. */
export interface Trained {
  /** The run's name. */
  readonly run: string;
  readonly round: number;
  /** SHA-256 of the round's `global.safetensors`. */
  readonly sha256: string;
  readonly config: Pick<RunConfig, "model" | "lora"> & { readonly workers: Pick<RunConfig["workers"], "python"> };
  readonly peft: PeftIdentity;
  /** SHA-256 of the files of the base model, by name. */
  readonly base: Readonly<Record<string, string>>;
  /** The data's labels, in the order of their numbers. */
  readonly labels: readonly string[];
  readonly layout: AdapterLayout;
  /** As committed, with the components that its aggregation merged into the base. */
  readonly global: Adapter;
  /** As evaluated and saved at every rank. */
  readonly presented: Adapter;
}

export interface SaveOptions {
  /** Rank: any whole number up to R, by default R. */
  readonly r?: number | undefined;
  /**
   * Write the whole model, with the adapter merged into its base, as transformers loads it. For an aggregation that merges (FLoRA),
   * this is the base with everything that it merged; with `r`, truncated to rank r.
   */
  readonly merge?: boolean | undefined;
  /** By default f32; with `merge`, that of the run's frozen weights (`model.dtype`). */
  readonly dtype?: StoredDtype | undefined;
  /** Replace an earlier export. */
  readonly overwrite?: boolean | undefined;
  /**
   * What `adapter_config.json` calls the base model, such as its name on the Hugging Face hub; by default what the run was given, a
   * folder of this machine if it was one.
   */
  readonly baseModel?: string | undefined;
  /** Further files of the folder, by name, such as those of `modelCard`. */
  readonly files?: ((made: Made) => Promise<Readonly<Record<string, string>>>) | undefined;
  /** Stops the export, which then leaves no files. */
  readonly signal?: AbortSignal | undefined;
}

/** What an export holds. */
export interface Made {
  readonly run: string;
  readonly round: number;
  readonly r: number;
  readonly merged: boolean;
  readonly dtype: StoredDtype;
  /** Name or folder of the base model. */
  readonly base: string;
}

export interface Saved extends Made {
  /** Absolute path. */
  readonly directory: string;
  /** What the user should know: loaders that do not take the export, tied weights that were separated. */
  readonly remarks: readonly string[];
}

/** Writes a trained adapter, or the model with the adapter merged in, as a folder, atomically. */
export async function saveTrained(trained: Trained, directory: string, options: SaveOptions = {}): Promise<Saved> {
  const { config, peft, base, layout, run, round, sha256, labels } = trained;
  const { merge = false, overwrite = false, signal } = options;
  const r = rankOf(layout, options.r);
  const dtype = options.dtype ?? (merge ? config.model.dtype : "f32");
  const target = path.resolve(directory);
  const isPooled = config.model.pooling === "mean";
  const name = options.baseModel ?? baseName(config.model);
  const made = { run, round, r, merged: merge, dtype, base: name };
  const record = {
    prelort: packageVersion(),
    run,
    round,
    r,
    merged: merge,
    dtype,
    scale: layout.scale,
    global_sha256: sha256,
    base_model: options.baseModel ?? config.model.nameOrPath,
  };
  const remarks = await placeFolder({
    target,
    overwrite,
    record,
    async fill(folder) {
      for (const [name, text] of Object.entries((await options.files?.(made)) ?? {})) await writeDurably(path.join(folder, name), text);
      if (merge) {
        const isWhole = options.r === undefined && trained.global.merged !== undefined;
        const adapter = isWhole ? trained.global : prefix(trained.presented, layout, r);
        const found = await writeMergedFolder(folder, { config, peft, base, layout, adapter, labels, dtype, signal });
        return isPooled ? [...found, loadedBy(directory)] : found;
      }
      const tensors = await writeAdapterFolder(folder, { config, base: name, peft, layout, adapter: trained.presented, r, dtype });
      return remarksOnLoaders({ r, modulesToSave: peft.modulesToSave, tensors, isPooled });
    },
  });
  return { directory: target, ...made, remarks };
}

/** transformers cannot find prelort's own class from a model's configuration. */
function loadedBy(directory: string): string {
  return `load it with prelort_worker.models.MeanPooledClassifier.from_pretrained(${JSON.stringify(directory)})`;
}

/** Checks a rank, by default R. Throws a ConfigError for a rank that the adapter does not have. */
export function rankOf(layout: AdapterLayout, r: number = layout.r): number {
  if (Number.isInteger(r) && r >= 1 && r <= layout.r) return r;
  throw argumentError("r", `must be a whole number from 1 to ${layout.r}, got ${r}`);
}
