import { RunFailedError } from "../../../src/errors.ts";
import { describe, expect, it } from "vitest";
import { validateRun } from "../../../src/config/build.ts";
import type { RunInput } from "../../../src/config/schema.ts";
import { toFitSpec } from "../../../src/config/fit-spec.ts";
import { toDataSpec, toLoraSpec, toModelSpec } from "../../../src/config/wire-specs.ts";
import { dataSpec, fitSpec, loraSpec, modelSpec } from "../../../src/protocol/specs.ts";
import { hetLora } from "../../../src/strategy/aggregation/hetlora.ts";
import { ffaLora } from "../../../src/strategy/aggregation/ffa-lora.ts";
import { listRanks } from "../../../src/strategy/ranks/list.ts";
import { segmentWise } from "../../../src/strategy/aggregation/segment-wise.ts";
import { selfPruningRanks } from "../../../src/strategy/ranks/self-pruning.ts";
import { allClients } from "../../../src/strategy/selection/all.ts";
import type { FitOptionsOf, RankedClient } from "../../../src/strategy/strategy.ts";
import { clientsOf } from "../../../src/testing/index.ts";

const input: RunInput = {
  model: { nameOrPath: "tiny", task: "causal-lm" },
  lora: { r: 8 },
  data: { path: "words.jsonl", text: "{gloss}", clients: 2, profiles: [{ memoryGiB: 1 }, { memoryGiB: 2 }] },
  strategy: { selection: allClients(), rankAssignment: listRanks([8, 2]), aggregation: hetLora() },
  rounds: 3,
};

const [, client] = clientsOf([
  { size: 10, r: 8 },
  { size: 10, r: 2 },
]) as [RankedClient, RankedClient];

describe("a config's sections on the wire", () => {
  it("match the messages exactly, with null for missing keys", () => {
    const config = validateRun(input);
    const specs = [
      [modelSpec, toModelSpec(config)],
      [loraSpec, toLoraSpec(config, [2, 8])],
      [dataSpec, toDataSpec(config)],
      [fitSpec, toFitSpec(config, 1, client)],
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
    const rates = [1, 2, 3].map((round) => toFitSpec(config, round, client).lr);
    expect(rates[0]).toBe(0.1);
    expect(rates[1]).toBeCloseTo(0.075, 12); // (1 + cos(π/3)) / 2 = 3/4
    expect(rates[2]).toBeCloseTo(0.025, 12);
    expect(toFitSpec(config, 1, client).head_lr).toBe(0.1);
    expect(
      toFitSpec(validateRun({ ...input, lora: { r: 8, modules_to_save: ["head"] }, fit: { lr: 0.1, headLr: 0.3 } }), 3, client),
    ).toMatchObject({ lr: 0.1, head_lr: 0.3 });
  });

  it("have the options that the strategy sets for every fit", () => {
    const ofRanks = { ...input.strategy, rankAssignment: selfPruningRanks({ ranks: [8, 2], penalty: 0.5 }) };
    expect(toFitSpec(validateRun({ ...input, strategy: ofRanks }), 1, client)).toMatchObject({ freeze_a: false, tail_penalty: 0.5 });
    const ofAggregation = { ...input.strategy, aggregation: ffaLora() };
    expect(toFitSpec(validateRun({ ...input, strategy: ofAggregation }), 1, client)).toMatchObject({ freeze_a: true, tail_penalty: 0 });
  });

  it("may have options of a client, in a round", () => {
    const fitOptions: FitOptionsOf = ({ id, r }, { round, rng }) => ({
      lrA: 1 / r,
      lrB: round,
      components: [r - 1, 0, 0],
      freezeA: id === "c1" && rng("a").next() < 1,
    });
    const config = validateRun({
      ...input,
      fit: { lr: 0.1 },
      strategy: { ...input.strategy, aggregation: { ...segmentWise(), fitOptions } },
    });
    expect(toFitSpec(config, 2, client)).toMatchObject({ lr: 0.05, lr_b: 0.2, head_lr: 0.1, components: [0, 1], freeze_a: true });
    for (const components of [[], [2], [-1], [0.5]]) {
      const wrong = validateRun({
        ...input,
        strategy: { ...input.strategy, aggregation: { ...segmentWise(), fitOptions: { components } } },
      });
      expect(() => toFitSpec(wrong, 1, client)).toThrow(/client c1: components must be whole numbers from 0 to 1, its rank being 2/);
    }
  });

  it("may have another weight of the client's own rank, and another share of steps with the tail, in each round", () => {
    const late: FitOptionsOf = (_, { round }) => (round < 3 ? { fullWeight: 1, actingTail: 1 } : { fullWeight: 0.5, actingTail: 0 });
    const fitOf = (fit: object, round: number) =>
      toFitSpec(
        validateRun({ ...input, fit, strategy: { ...input.strategy, aggregation: { ...segmentWise(), fitOptions: late } } }),
        round,
        client,
      );
    const fit = { fullWeight: 0.9, actingTail: 0.5 };
    expect(fitOf(fit, 2)).toMatchObject({ full_weight: 1, acting_tail: 1 });
    expect(fitOf(fit, 3)).toMatchObject({ full_weight: 0.5, acting_tail: 0 });
    expect(() => fitOf({}, 3)).toThrow(/client c1: actingTail needs fit.acting_tail above 0/);
  });

  it.each([
    [{ fullWeight: 1.5 }, "fullWeight: "],
    [{ actingTail: -0.5 }, "actingTail: "],
    [{ lrB: NaN }, "lrB: "],
    [{ lrA: -1 }, "lrA: "],
    [{ lrA: Infinity }, "lrA: "],
    [{ freezeA: "no" }, "freezeA: "],
    [{ lr_b: 2 }, "lr_b"],
    [async () => ({ freezeA: true }), "returned a promise"],
    [() => 7, "returned 7"],
    [
      () => {
        throw new TypeError("boom");
      },
      "threw TypeError: boom",
    ],
  ])("refuse what a policy may not ask of a fit, and name the policy: %o", (fitOptions, told) => {
    const aggregation = { ...segmentWise(), fitOptions: fitOptions as never };
    const config = validateRun({ ...input, strategy: { ...input.strategy, aggregation } });
    const fails = () => toFitSpec(config, 1, client);
    expect(fails).toThrow(RunFailedError);
    expect(fails).toThrow(/the aggregation segment-wise, asked for the fit options of client c1/);
    expect(fails).toThrow(told);
  });

  it("have what is merged act in every step, unless it is the components above a client's rank", () => {
    expect(toFitSpec(validateRun(input), 1, client).acting_tail).toBe(1);
    expect(toFitSpec(validateRun({ ...input, fit: { actingTail: 0.25 } }), 1, client).acting_tail).toBe(0.25);
  });
});
