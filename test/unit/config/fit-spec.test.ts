import { describe, expect, it, test } from "vitest";
import { validateRun } from "../../../src/config/build.ts";
import { stepsOf, toFitSpec } from "../../../src/config/fit-spec.ts";
import type { RunInput } from "../../../src/config/schema.ts";
import { segmentWise } from "../../../src/strategy/aggregation/segment-wise.ts";
import { listRanks } from "../../../src/strategy/ranks/list.ts";
import { allClients } from "../../../src/strategy/selection/all.ts";
import { clientsOf } from "../../../src/testing/index.ts";
import { issue, issuesOf } from "../../support/config-issues.ts";

const input: RunInput = {
  model: { nameOrPath: "tiny", task: "causal-lm" },
  lora: { r: 2 },
  data: { path: "words.jsonl", text: "{gloss}", clients: 1 },
  strategy: { selection: allClients(), rankAssignment: listRanks([2]), aggregation: segmentWise() },
  rounds: 8,
};
const withHead = { lora: { r: 2, modules_to_save: ["lm_head"] } };
const [client] = clientsOf([{ size: 33, r: 2 }]);
const fitIn = (fit: RunInput["fit"], round = 1) =>
  toFitSpec(validateRun({ ...input, ...(fit?.headLr !== undefined && withHead), fit }), round, client!);
const issuesIn = (fit: RunInput["fit"], more: Partial<RunInput> = {}) => issuesOf(async () => validateRun({ ...input, ...more, fit }));

describe("learning rates", () => {
  // After warmup these are the rates that transformers' get_scheduler gives for 2 warmup steps of 8, at lr 0.1.
  it.each([
    ["constant", 0, [0.1, 0.1, 0.1, 0.1, 0.1, 0.1]],
    ["linear", 0, [0.1, 0.083333, 0.066667, 0.05, 0.033333, 0.016667]],
    ["cosine", 0, [0.1, 0.09330127, 0.075, 0.05, 0.025, 0.00669873]],
    ["cosine", 0.02, [0.1, 0.09464102, 0.08, 0.06, 0.04, 0.02535898]],
    ["inverse_sqrt", 0, [0.1, 0.08164966, 0.07071068, 0.06324555, 0.05773503, 0.05345225]],
    ["inverse_sqrt", 0.06, [0.1, 0.08164966, 0.07071068, 0.06324555, 0.06, 0.06]],
  ] as const)("rise in equal steps, then follow the schedule %s down to %f", (lrSchedule, minLr, expected) => {
    const rates = Array.from({ length: 8 }, (_, index) => fitIn({ lr: 0.1, lrSchedule, minLr, warmupRounds: 2 }, index + 1).lr);
    for (const [index, rate] of [0.1 / 3, 0.2 / 3, ...expected].entries()) expect(rates[index]).toBeCloseTo(rate, 6);
  });

  it("fall by the inverse root of the rounds without warmup, too", () => {
    const rates = [1, 2, 4].map((round) => fitIn({ lr: 0.1, lrSchedule: "inverse_sqrt" }, round).lr);
    expect(rates).toEqual([0.1, 0.1 / Math.SQRT2, 0.05].map((rate) => expect.closeTo(rate, 12) as number));
  });

  it("keep their ratios to lr in every round", () => {
    const fit = { lr: 0.1, lrBRatio: 16, headLr: 0.3, lrSchedule: "linear", minLr: 0.02 } as const;
    expect(fitIn(fit, 1)).toMatchObject({ lr: 0.1, lr_b: 1.6, head_lr: 0.3 });
    const last = fitIn(fit, 8);
    expect(last.lr).toBeCloseTo(0.03, 12); // 0.02 + 0.08 / 8
    expect([last.lr_b / last.lr, last.head_lr / last.lr]).toEqual([expect.closeTo(16, 10), expect.closeTo(3, 10)]);
  });
});

test("epochs are the nearest number of steps to what a client's examples take, at least one", () => {
  const steps = (fit: RunInput["fit"]) => fitIn({ batchSize: 4, gradientAccumulationSteps: 2, ...fit }).local_steps;
  expect(steps({})).toBe(10);
  expect(steps({ epochs: 1 })).toBe(4); // 33 / 8
  expect(steps({ epochs: 0.1 })).toBe(1);
  expect(steps({ epochs: 3 })).toBe(12);
  // 37 / 8 = 4.6
  expect(stepsOf({ localSteps: 7, epochs: 1, batchSize: 4, gradientAccumulationSteps: 2 }, { size: 37 })).toBe(5);
  // 1.1 · 100 / 10 is a little above 11 in floating point.
  expect(stepsOf({ localSteps: 7, epochs: 1.1, batchSize: 10, gradientAccumulationSteps: 1 }, { size: 100 })).toBe(11);
  expect(stepsOf({ localSteps: 7, batchSize: 4, gradientAccumulationSteps: 1 }, { size: 33 })).toBe(7);
});

test("a tail that would act in less than one of a client's steps is refused once its size is known", () => {
  expect(fitIn({ epochs: 1, batchSize: 4, actingTail: 0.2 }).acting_tail).toBe(0.2);
  // One of 8.
  expect(fitIn({ epochs: 1, batchSize: 4, actingTail: 0.125 }).acting_tail).toBe(0.125);
  expect(() => fitIn({ epochs: 0.25, batchSize: 4, actingTail: 0.2 })).toThrow(/client c0 has 2 steps at fit\.epochs 0\.25, .* raise one/);
});

test("an optimizer is a name, with its defaults, or a name with options", () => {
  const adam = { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0 };
  expect(fitIn({}).optimizer).toEqual({ name: "adamw", ...adam });
  expect(fitIn({ optimizer: "adamw_8bit" }).optimizer).toEqual({ name: "adamw_8bit", ...adam });
  expect(fitIn({ optimizer: { name: "adamw", weightDecay: 0.1, betas: [0.8, 0.9] } }).optimizer).toEqual({
    name: "adamw",
    betas: [0.8, 0.9],
    eps: 1e-8,
    weight_decay: 0.1,
  });
  expect(fitIn({ optimizer: { name: "sgd", momentum: 0.9 } }).optimizer).toEqual({
    name: "sgd",
    momentum: 0.9,
    nesterov: false,
    weight_decay: 0,
  });
});

test("options that contradict each other are refused, all at once", async () => {
  expect(await issuesIn({ epochs: 1, localSteps: 4, lr: 0.1, minLr: 0.2, warmupRounds: 8 })).toEqual([
    issue("fit.localSteps", ["fit.epochs", 1]),
    issue("fit.minLr", ["fit.lr", 0.1, 0.2]),
    issue("fit.warmupRounds", ["rounds", 8]),
  ]);
  expect(await issuesIn({}, { evaluate: { samples: 4 } })).toEqual([issue("evaluate.samples", ["evaluate.max_new_tokens"])]);
  expect(await issuesIn({}, { evaluate: { samples: 4, maxNewTokens: 8, shardSize: 2 } })).toContainEqual(
    issue("evaluate.samples", ["evaluate.shard_size", 2, 4]),
  );
  expect(await issuesIn({ warmupSteps: 4, localSteps: 4 })).toEqual([issue("fit.warmupSteps", ["fit.local_steps", 4, 4])]);
  expect(await issuesIn({ optimizer: { name: "adamw", betas: [0.9] } })).toEqual([issue("fit.optimizer.betas", ["two numbers"])]);
  expect(await issuesIn({ minLr: 1e-5 })).toEqual([issue("fit.minLr", ["linear"])]);
  expect(await issuesIn({ optimizer: { name: "sgd", nesterov: true } })).toEqual([issue("fit.optimizer.nesterov", ["momentum", 0])]);
  const image = {
    model: { nameOrPath: "tiny", task: "image-classification" },
    data: { path: "images", label: "kind", clients: 1 },
  } as const;
  expect(await issuesIn({ neftuneAlpha: 5 }, image)).toEqual([issue("fit.neftuneAlpha", ["image-classification"])]);
  expect(await issuesIn({ optimizer: { name: "sgd", betas: [0.9, 0.99] } as never })).toEqual([issue("fit.optimizer.betas")]);
  expect(await issuesIn({ optimizer: "lion" as never })).toEqual([
    issue("fit.optimizer", ['"lion"', "adamw", "sgd", "adafactor", "adamw_8bit"]),
  ]);
});
