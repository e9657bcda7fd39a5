import path from "node:path";
import type { Adapter } from "../adapter/adapter.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import { adapterConfig, type PeftIdentity, peftTensors } from "../adapter/peft.ts";
import type { RunConfig } from "../config/schema.ts";
import { RefusedError } from "../errors.ts";
import { encodeSafetensors } from "../tensor/safetensors.ts";
import { writeDurably } from "./durable.ts";
import type { RoundMetrics } from "./events.ts";
import { resolveReference } from "./wire-specs.ts";

/** What a finished run gives. */
export interface RunResult {
  /** The run directory, absolute. */
  readonly directory: string;
  readonly layout: AdapterLayout;
  /** The global adapter after the last round, at rank R. */
  readonly adapter: Adapter;
  /** One entry a round; the first, round 0, is before training. */
  readonly metrics: readonly RoundMetrics[];
  /** SHA-256 of the last `rounds/<n>/global.safetensors`. */
  readonly sha256: string;
  /**
   * Writes the rank-r prefix as a PEFT adapter that `PeftModel.from_pretrained(base, directory)` loads.
   * Refuses an r above R; r need not be a tier. By default r = R.
   */
  savePretrained(directory: string, options?: { readonly r?: number }): Promise<void>;
}

export async function savePretrained(
  config: Pick<RunConfig, "model" | "lora">,
  { layout, adapter, peft }: { readonly layout: AdapterLayout; readonly adapter: Adapter; readonly peft: PeftIdentity },
  directory: string,
  r: number = layout.r,
): Promise<void> {
  if (!Number.isInteger(r) || r < 1 || r > layout.r) {
    throw new RefusedError("savePretrained's r", `a whole number from 1 to ${layout.r}`, String(r));
  }
  const settings = adapterConfig({
    layout,
    r,
    lora: config.lora,
    baseModel: resolveReference(config.model.nameOrPath),
    peft,
  });
  await writeDurably(
    path.join(directory, "adapter_model.safetensors"),
    encodeSafetensors(peftTensors(layout, adapter, r), { format: "pt" }),
  );
  await writeDurably(path.join(directory, "adapter_config.json"), `${JSON.stringify(settings, null, 2)}\n`);
}
