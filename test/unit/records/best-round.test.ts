import { describe, expect, it, test } from "vitest";
import type { BestSpec, StopSpec } from "../../../src/config/best-section.ts";
import { judge, judgeRecorded } from "../../../src/records/best-round.ts";
import type { TierMetrics } from "../../../src/records/metrics.ts";
import { tierMetrics } from "../../support/tier-metrics.ts";

const tier = (r: number, figures: Partial<TierMetrics>): TierMetrics => tierMetrics(r, figures);

/** Evaluations of one tier by their loss, from round 0 on; undefined for a round that was not evaluated. */
const losses = (...values: readonly (number | null | undefined)[]) =>
  values.map((loss, round) => ({ round, byTier: loss === undefined ? [] : [tier(1, { loss })] }));

const LOSS: BestSpec = { metric: "loss", at: "area" };
const judged = (stopWhen: Partial<StopSpec> | undefined, values: readonly (number | null | undefined)[], rounds = 9) =>
  judge({ rounds, evaluate: { best: LOSS }, stopWhen: stopWhen && { minDelta: 0, ...stopWhen } }, losses(...values));

describe("the best round", () => {
  it("has the lowest loss, and is not the evaluation before training", () => {
    expect(judged(undefined, [1, 5, 3, 4]).best).toEqual({ round: 2, value: 3, metric: "loss", at: "area" });
    expect(judged(undefined, [1]).best).toBeUndefined();
  });

  it("is the earliest of equal rounds", () => {
    expect(judged(undefined, [9, 4, 3, 3, 3]).best).toMatchObject({ round: 2 });
  });

  it("leaves out rounds that were not evaluated, and those whose metric has no finite value", () => {
    expect(judged(undefined, [9, undefined, 4, undefined, 3]).best).toMatchObject({ round: 4, value: 3 });
    expect(judged(undefined, [9, null, 4, null, NaN, -Infinity]).best).toMatchObject({ round: 2, value: 4 });
    expect(judged(undefined, [9, null, null]).best).toBeUndefined();
  });

  it("is not marked unless the config asks for it", () => {
    expect(judge({ rounds: 9, evaluate: {} }, losses(9, 4))).toEqual({ best: undefined, stopped: undefined, mayStop: false });
  });
});

test.each<[string, BestSpec, number, number]>([
  // Over log2 rank, 1 → 2 is one wide and 2 → 8 two: (0.5 · 1 + 0.6 · 2) / 3 and (0.5 · 1 + 0.5 · 2) / 3.
  ["area under the ranks", { metric: "accuracy", at: "area" }, 1, (0.5 + 1.2) / 3],
  ["worst tier, where higher is better", { metric: "accuracy", at: "worst" }, 2, 0.45],
  ["worst tier, where lower is better", { metric: "loss", at: "worst" }, 1, 3],
  ["one tier", { metric: "accuracy", at: 2 }, 2, 0.5],
  ["macro-F1", { metric: "macro_f1", at: 1 }, 1, 0.9],
  ["ROUGE-L", { metric: "rouge_l", at: 1 }, 2, 0.7],
  ["perplexity", { metric: "perplexity", at: 1 }, 2, 7],
  ["bits per byte", { metric: "bits_per_byte", at: 1 }, 2, 1],
  ["calibration error", { metric: "ece", at: 1 }, 2, 0.1],
  ["a metric of the task's own that is to rise", { metric: "bleu", at: 1, mode: "max" }, 1, 20],
  ["a metric of the task's own that is to fall", { metric: "bleu", at: 1, mode: "min" }, 2, 10],
])("the best round can be judged by the %s", (_, best, round, value) => {
  const first = { loss: 3, perplexity: 8, macroF1: 0.9, rougeL: 0.6, bitsPerByte: 2, ece: 0.2, own: [{ name: "bleu", value: 20 }] };
  const second = { loss: 1, perplexity: 7, macroF1: 0.8, rougeL: 0.7, bitsPerByte: 1, ece: 0.1, own: [{ name: "bleu", value: 10 }] };
  const rounds = [
    {
      round: 1,
      byTier: [tier(1, { ...first, accuracy: 0.6 }), tier(2, { ...first, accuracy: 0.4 }), tier(8, { ...first, accuracy: 0.8 })],
    },
    {
      round: 2,
      byTier: [tier(1, { ...second, accuracy: 0.5 }), tier(2, { ...second, accuracy: 0.5 }), tier(8, { loss: 4, accuracy: 0.45 })],
    },
  ];
  const found = judge({ rounds: 9, evaluate: { best } }, rounds).best;
  expect(found).toMatchObject({ round, metric: best.metric, at: best.at });
  expect(found?.value).toBeCloseTo(value, 12);
});

describe("patience", () => {
  it("ends the run after so many evaluations in a row without an improvement", () => {
    expect(judged({ patience: 2 }, [9, 5, 4, 4]).stopped).toBeUndefined();
    const { best, stopped } = judged({ patience: 2 }, [9, 5, 4, 4, 4.5]);
    expect(stopped).toEqual({ round: 4, reason: "patience" });
    expect(best).toMatchObject({ round: 2 });
    // A better one in between starts the count again.
    expect(judged({ patience: 2 }, [9, 5, 6, 4, 6, 6]).stopped).toEqual({ round: 5, reason: "patience" });
  });

  it("counts only rounds that were evaluated, and those without a finite value too", () => {
    expect(judged({ patience: 2 }, [9, undefined, 5, undefined, 6, undefined]).stopped).toBeUndefined();
    expect(judged({ patience: 2 }, [9, undefined, 5, undefined, 6, undefined, null]).stopped).toEqual({ round: 6, reason: "patience" });
    expect(judged({ patience: 2 }, [9, null, null]).stopped).toEqual({ round: 2, reason: "patience" });
  });

  it("does not compare with the evaluation before training", () => {
    expect(judged({ patience: 1 }, [1, 5, 4, 3]).stopped).toBeUndefined();
  });

  it("counts an improvement only above min_delta, over the value that last counted; the best round needs none", () => {
    // 4.75 is 0.25 better than 5, 4.25 is 0.75 better than 5, and 3.75 is 0.5 better than 4.25, which is not more.
    const values = [9, 5, 4.75, 4.25, 3.75];
    expect(judged({ patience: 1, minDelta: 0.5 }, values).stopped).toEqual({ round: 2, reason: "patience" });
    expect(judged({ patience: 2, minDelta: 0.5 }, values).stopped).toBeUndefined();
    expect(judged({ patience: 2, minDelta: 0.5 }, [...values, 3.75])).toMatchObject({
      best: { round: 4, value: 3.75 },
      stopped: { round: 5, reason: "patience" },
    });
  });
});

describe("a target", () => {
  it("ends the run as soon as the metric reaches it", () => {
    expect(judged({ target: 3 }, [2, 5, 3.5]).stopped).toBeUndefined();
    expect(judged({ target: 3 }, [2, 5, 3]).stopped).toEqual({ round: 2, reason: "target" });
    expect(judged({ target: 3, patience: 1 }, [2, 5, 2.5]).stopped).toEqual({ round: 2, reason: "target" });
    const accuracy = [0.5, 0.75].map((value, round) => ({ round: round + 1, byTier: [tier(1, { accuracy: value })] }));
    const config = { rounds: 9, evaluate: { best: { metric: "accuracy", at: "area" } as const } };
    expect(judge({ ...config, stopWhen: { minDelta: 0, target: 0.75 } }, accuracy).stopped).toEqual({ round: 2, reason: "target" });
    expect(judge({ ...config, stopWhen: { minDelta: 0, target: 0.76 } }, accuracy).stopped).toBeUndefined();
  });
});

describe("a run", () => {
  it("does not count as stopped if it trains all its rounds", () => {
    expect(judged({ target: 3 }, [9, 5, 3], 2).stopped).toBeUndefined();
  });

  it("ends once: what is evaluated later changes neither the end nor the best round", () => {
    expect(judged({ target: 3 }, [9, 3, 1])).toMatchObject({ best: { round: 1 }, stopped: { round: 1 } });
  });

  it("must wait for an evaluation only if that can end it", () => {
    expect(judged(undefined, [9, 5]).mayStop).toBe(false);
    expect(judged({ target: 1 }, [9]).mayStop).toBe(true);
    expect([[9], [9, 5], [9, 5, 5], [9, 5, 5, 5]].map((values) => judged({ patience: 3 }, values).mayStop)).toEqual([
      false,
      false,
      false,
      true,
    ]);
  });

  it("is judged from its record as it judged itself, and not at all if its record says nothing about it", () => {
    const config = { rounds: 9, evaluate: { best: { metric: "loss", at: "worst" } }, stop_when: { patience: 1, min_delta: 0.5 } };
    expect(judgeRecorded(config, losses(9, 5, 4.75, 1))).toEqual({
      best: { round: 2, value: 4.75, metric: "loss", at: "worst" },
      stopped: { round: 2, reason: "patience" },
      mayStop: false,
    });
    expect(judgeRecorded({ rounds: 9, evaluate: { every: 1 } }, losses(9, 5)).best).toBeUndefined();
    expect(judgeRecorded(undefined, losses(9, 5)).best).toBeUndefined();
  });
});
