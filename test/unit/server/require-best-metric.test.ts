import { expect, test } from "vitest";
import { ConfigError } from "../../../src/errors.ts";
import type { TierMetrics } from "../../../src/records/metrics.ts";
import { requireBestMetric } from "../../../src/server/require-best-metric.ts";

const nothing = { perplexity: null, accuracy: null, macroF1: null, rougeL: null, bitsPerByte: null, ece: null };
const tier = (figures: Partial<TierMetrics>): TierMetrics => ({ r: 1, loss: 1, ...nothing, own: [], examples: 8, ...figures });

function require(metric: string, figures: Partial<TierMetrics>, isLanguage = false): void {
  const evaluate = { best: { metric, at: "area" }, maxNewTokens: 0 } as Parameters<typeof requireBestMetric>[0]["evaluate"];
  requireBestMetric({ evaluate }, { round: 5, byTier: [tier(figures)] }, isLanguage);
}

test.each([
  ["loss", {}, false],
  ["perplexity", {}, true],
  ["ece", { ece: 0.1 }, false],
  ["top 2", { own: [{ name: "top 2", value: null }] }, false],
  ["pearson", { own: [{ name: "pearson", value: null }] }, false],
] as const)("%s is there", (metric, figures, isLanguage) => {
  expect(() => require(metric, figures, isLanguage)).not.toThrow();
});

test.each(["ece", "bits_per_byte", "f1", "top 3"])("%s is missing, and the error says what there is", (metric) => {
  const wrong = () => require(metric, { accuracy: 0.5, own: [{ name: "top 2", value: 1 }] });
  expect(wrong).toThrow(ConfigError);
  expect(wrong).toThrow(/loss, accuracy, top 2;/);
});

test.each(["ece", "bits_per_byte", "accuracy"])(
  "%s of a model that diverged is not missing: the run goes on to better rounds",
  (metric) => {
    expect(() => require(metric, { loss: null }, true)).not.toThrow();
  },
);
