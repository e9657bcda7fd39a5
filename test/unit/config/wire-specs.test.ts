import { describe, expect, it } from "vitest";
import { validateRun } from "../../../src/config/build.ts";
import type { RunInput } from "../../../src/config/schema.ts";
import { toDataSpec, toFitSpec, toLoraSpec, toModelSpec } from "../../../src/config/wire-specs.ts";
import { dataSpec, fitSpec, loraSpec, modelSpec } from "../../../src/protocol/specs.ts";
import { hetLora } from "../../../src/strategy/aggregation/hetlora.ts";
import { ffaLora } from "../../../src/strategy/aggregation/ffa-lora.ts";
import { listRanks } from "../../../src/strategy/ranks/list.ts";
import { selfPruningRanks } from "../../../src/strategy/ranks/self-pruning.ts";
import { allClients } from "../../../src/strategy/selection/all.ts";

const input: RunInput = {
  model: { nameOrPath: "tiny", task: "causal-lm" },
  lora: { r: 8 },
  data: { path: "words.jsonl", text: "{gloss}", clients: 2, profiles: [{ memoryGiB: 1 }, { memoryGiB: 2 }] },
  strategy: { selection: allClients(), rankAssignment: listRanks([8, 2]), aggregation: hetLora() },
  rounds: 3,
};

describe("a config's sections on the wire", () => {
  it("match the messages exactly, with null for missing keys", () => {
    const config = validateRun(input);
    const specs = [
      [modelSpec, toModelSpec(config)],
      [loraSpec, toLoraSpec(config, [2, 8])],
      [dataSpec, toDataSpec(config)],
      [fitSpec, toFitSpec(config, 1)],
    ] as const;
    for (const [schema, spec] of specs) expect(schema.parse(spec)).toEqual(spec);
    expect(toModelSpec(config)).toMatchObject({ name_or_path: "tiny", revision: null, trust_remote_code: false, task_folder: null });
    expect(toLoraSpec(config, [2, 8])).toEqual({
      r: 8,
      tiers: [2, 8],
      scale: 2,
      target_modules: null,
      modules_to_save: null,
      lora_dropout: 0,
    });
    expect(toDataSpec(config)).toMatchObject({ path: "words.jsonl", eval_path: null, max_length: 256, clients: 2 });
  });

  it("have the learning rates of the schedule: cosine begins at the full rate and ends near zero", () => {
    const config = validateRun({ ...input, fit: { lr: 0.1, lrSchedule: "cosine" } });
    const rates = [1, 2, 3].map((round) => toFitSpec(config, round).lr);
    expect(rates[0]).toBe(0.1);
    expect(rates[1]).toBeCloseTo(0.075, 12); // (1 + cos(π/3)) / 2 = 3/4
    expect(rates[2]).toBeCloseTo(0.025, 12);
    expect(toFitSpec(config, 1).head_lr).toBe(0.1);
    expect(toFitSpec(validateRun({ ...input, lora: { r: 8, modules_to_save: ["head"] }, fit: { lr: 0.1, headLr: 0.3 } }), 3)).toMatchObject(
      { lr: 0.1, head_lr: 0.3 },
    );
  });

  it("have the options that the strategy sets for every fit", () => {
    const ofRanks = { ...input.strategy, rankAssignment: selfPruningRanks({ ranks: [8, 2], penalty: 0.5 }) };
    expect(toFitSpec(validateRun({ ...input, strategy: ofRanks }), 1)).toMatchObject({ freeze_a: false, tail_penalty: 0.5 });
    const ofAggregation = { ...input.strategy, aggregation: ffaLora() };
    expect(toFitSpec(validateRun({ ...input, strategy: ofAggregation }), 1)).toMatchObject({ freeze_a: true, tail_penalty: 0 });
  });
});
