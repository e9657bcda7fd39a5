import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll } from "vitest";
import type { Adapter } from "../../src/adapter/adapter.ts";
import { encodeGlobal } from "../../src/adapter/global-file.ts";
import type { AdapterLayout } from "../../src/adapter/layout.ts";
import { encodeClientTable } from "../../src/records/client-table.ts";
import { createRunDirectory } from "../../src/records/run-directory.ts";
import { encodeBegun, encodeReady } from "../../src/records/run-record.ts";
import { NOTHING_TRAINED } from "../../src/records/metrics.ts";

export interface MadeRun {
  readonly name: string;
  readonly layout: AdapterLayout;
  /** The adapter after each round, from 0. */
  readonly rounds: readonly Adapter[];
  /** As run.json spells it. */
  readonly aggregation?: object | string;
  /** As run.json has it of an aggregation of one's own. */
  readonly presents?: boolean;
  readonly modulesToSave?: readonly string[];
  readonly pooling?: "mean" | undefined;
}

const none = new Uint32Array(0);
const noPairs = { starts: Uint32Array.of(0), keys: none, counts: none };
const clients = encodeClientTable({ ids: [], n: none, r: none, tokens: none, labelCounts: noPairs, mix: noPairs, values: [] });

/** A folder for runs that were never trained, for tests that need only their files. Removed after a file's tests. */
export function madeRuns(): { readonly folder: string; make(run: MadeRun): Promise<string> } {
  const folder = mkdtempSync(path.join(tmpdir(), "prelort-test-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  return {
    folder,
    async make({ name, layout, rounds, modulesToSave = [], pooling, presents, ...made }) {
      const { aggregation = { name: "segment-wise", weights: "examples" } } = made;
      const directory = await createRunDirectory({ runsDir: folder, name });
      const config = {
        rounds: rounds.length - 1,
        data: { path: "words.jsonl" },
        model: { name_or_path: "some/base", task: pooling ? "sequence-classification" : "causal-lm", pooling, dtype: "f32" },
        lora: { r: layout.r, tiers: layout.tiers, scale: layout.scale, target_modules: ["q"], lora_dropout: 0 },
        strategy: { aggregation },
        workers: { threads: 1 },
      };
      const method = { name: "a method", note: "" };
      const begun = encodeBegun({ name, prelort: "0.1.0", method, doubts: [], config, presents, init_from: null });
      await directory.writeClients(clients.parts);
      await directory.writeRecord({
        ...begun,
        ...encodeReady({
          versions: {},
          variables: {},
          device: { type: "cpu", name: "CPU", capability: null, memoryBytes: null },
          model: { commit: null, weights: {}, tokenizer: {}, config: {} },
          code: {},
          data: { sha256: "" },
          index: { path: "", sha256: "" },
          labels: [],
          eval_examples: 0,
          truncated_examples: 0,
          remarks: [],
          clients: clients.summary,
          base_parameters: 0,
          layout,
          peft: { taskType: "CAUSAL_LM", modulesToSave },
          left_out: [],
        }),
      });
      for (const [round, global] of rounds.entries()) {
        await directory.commitRound({
          round,
          global: encodeGlobal(layout, global, round),
          state: {},
          trained: NOTHING_TRAINED,
          setAside: [],
          clients: [],
        });
      }
      await directory.close();
      return directory.path;
    },
  };
}
