import { rm } from "node:fs/promises";
import path from "node:path";
import type { Adapter } from "../adapter/adapter.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import type { PeftIdentity } from "../adapter/peft.ts";
import type { RunConfig } from "../config/schema.ts";
import { encodeSafetensors } from "../tensor/safetensors.ts";
import { findPython, requirePython } from "../workers/python.ts";
import { cacheFolder } from "../installation.ts";
import { runModule } from "../workers/run-module.ts";
import type { StoredDtype } from "./peft-folder.ts";
import { writeDurably } from "../records/durable-file.ts";
import { toModelSpec } from "../config/wire-specs.ts";

export interface MergedFolder {
  readonly config: Pick<RunConfig, "model"> & { readonly workers: Pick<RunConfig["workers"], "python"> };
  readonly peft: PeftIdentity;
  /** SHA-256 of the base model's files, by name. A base model that differs is refused. */
  readonly base: Readonly<Record<string, string>>;
  readonly layout: AdapterLayout;
  /** All of its rows are merged, and so are the components that its aggregation merged. */
  readonly adapter: Adapter;
  readonly labels: readonly string[];
  readonly dtype: StoredDtype;
  readonly signal?: AbortSignal | undefined;
}

/** Lets Python write the base model with the adapter merged in, as transformers loads it. Returns remarks for the user. */
export async function writeMergedFolder(folder: string, made: MergedFolder): Promise<readonly string[]> {
  const { config, peft, base, layout, adapter, labels, dtype, signal } = made;
  const python = findPython(config.workers.python);
  await requirePython(python);
  const components = path.join(folder, "components.partial");
  const rows = stacked(adapter);
  const tensors = new Map([
    ["rows", { shape: [rows.length / layout.width, layout.width], values: rows }],
    ["dense", { shape: [layout.denseSize], values: adapter.dense }],
  ]);
  await writeDurably(components, encodeSafetensors(tensors, {}));
  try {
    const request = {
      model: toModelSpec(config),
      base,
      cache_dir: cacheFolder(),
      labels,
      modules_to_save: peft.modulesToSave,
      scale: layout.scale,
      modules: layout.modules.map((module) => ({ name: module.name, in: module.in, out: module.out })),
      dense: layout.dense.map(({ name, shape }) => ({ name, shape })),
      components,
      dtype,
      out: folder,
    };
    return await runModule({ python, program: "export", request, purpose: "merging the adapter into its base", signal });
  } finally {
    await rm(components, { force: true });
  }
}

/** [n, width]: the rows of the merged components, then the adapter's. */
function stacked({ rows, merged }: Adapter): Float32Array {
  if (!merged) return rows;
  const all = new Float32Array(merged.rows.length + rows.length);
  all.set(merged.rows);
  all.set(rows, merged.rows.length);
  return all;
}
