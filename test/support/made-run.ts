import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll } from "vitest";
import type { Adapter } from "../../src/adapter/adapter.ts";
import { encodeGlobal } from "../../src/adapter/global-file.ts";
import type { AdapterLayout } from "../../src/adapter/layout.ts";
import { createRunDirectory } from "../../src/records/run-directory.ts";

const trained = { coverage: [], fitLoss: null, reported: [], failed: [], late: [], passes: 0, bytesDown: 0, bytesUp: 0 };

export interface MadeRun {
  readonly name: string;
  readonly layout: AdapterLayout;
  /** After each round, from 0. */
  readonly rounds: readonly Adapter[];
  /** As run.json has it. */
  readonly aggregation?: object;
  readonly modulesToSave?: readonly string[];
  readonly pooling?: "mean" | undefined;
}

/** A folder for runs that were never trained: their files are all that is looked at. Gone after the tests of a file. */
export function madeRuns(): { readonly folder: string; make(run: MadeRun): Promise<string> } {
  const folder = mkdtempSync(path.join(tmpdir(), "prelort-test-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  return {
    folder,
    async make({ name, layout, rounds, aggregation = { name: "segment-wise", weights: "examples" }, modulesToSave = [], pooling }) {
      const directory = await createRunDirectory({ runsDir: folder, name });
      await directory.writeRecord("run.json", {
        name,
        config: {
          model: { name_or_path: "some/base", task: pooling ? "sequence-classification" : "causal-lm", pooling, dtype: "f32" },
          lora: { r: layout.r, tiers: layout.tiers, scale: layout.scale, target_modules: ["q"], lora_dropout: 0 },
          strategy: { aggregation },
          workers: { threads: 1 },
        },
        labels: [],
        model: { commit: null, weights: {}, tokenizer: {}, config: {} },
        peft: { task_type: "CAUSAL_LM", modules_to_save: modulesToSave },
      });
      for (const [round, global] of rounds.entries()) {
        await directory.commitRound({ round, global: encodeGlobal(layout, global, round), state: {}, trained, clients: [], setAside: [] });
      }
      await directory.close();
      return directory.path;
    },
  };
}
