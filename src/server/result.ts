import path from "node:path";
import type { Adapter } from "../adapter/adapter.ts";
import type { AdapterLayout } from "../adapter/layout.ts";
import type { RunConfig } from "../config/schema.ts";
import type { BestRound, EarlyStop } from "../records/best-round.ts";
import type { RoundMetrics } from "../records/metrics.ts";
import { type Saved, type SaveOptions, saveTrained, type Trained } from "../artifacts/save-trained.ts";

/** The result of a finished run. */
export interface RunResult {
  /** The run directory, absolute. */
  readonly directory: string;
  readonly layout: AdapterLayout;
  /** The global adapter after the last round, at rank R. */
  readonly adapter: Adapter;
  /** One entry a round; the first, round 0, is before training. */
  readonly metrics: readonly RoundMetrics[];
  /** With `evaluate.best`: the best of the evaluated rounds. Its adapters are in `adapters/best`. */
  readonly best: BestRound | undefined;
  /** With `stopWhen`: why the run ended before its last round; undefined if it trained all. */
  readonly stopped: EarlyStop | undefined;
  /** SHA-256 of the last `rounds/<n>/global.safetensors`. */
  readonly sha256: string;
  /**
   * Writes the rank-r prefix as a PEFT adapter that `PeftModel.from_pretrained(base, directory)` loads, or, with `merge`, the
   * whole model. Refuses an r above R; r need not be a tier. By default r = R.
   */
  savePretrained(directory: string, options?: SaveOptions): Promise<Saved>;
}

export function createResult(
  config: RunConfig,
  { path: directory }: { readonly path: string },
  made: Omit<Trained, "run" | "config">,
  { metrics, best, stopped }: Pick<RunResult, "metrics" | "best" | "stopped">,
): RunResult {
  const { layout, presented: adapter, sha256 } = made;
  const trained = { run: path.basename(directory), config, ...made };
  const savePretrained: RunResult["savePretrained"] = (folder, options) => saveTrained(trained, folder, options);
  return { directory, layout, adapter, metrics, best, stopped, sha256, savePretrained };
}
