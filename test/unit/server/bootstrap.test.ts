import { expect, test } from "vitest";
import { createRng, deriveSeed, type Rng } from "../../../src/base/rng.ts";
import { bootstrap, type Figure } from "../../../src/server/bootstrap.ts";
import { figuresOf } from "../../../src/server/figures.ts";
import type { Interval } from "../../../src/records/metrics.ts";
import { exampleValues } from "../../support/example-values.ts";

function finish<T>(work: Generator<void, T>): { readonly value: T; readonly turns: number } {
  for (let turns = 1; ; turns++) {
    const { done, value } = work.next();
    if (done) return { value, turns };
  }
}

const mean = (values: readonly number[]): Figure => ({
  name: "mean",
  of: (weights) => {
    const sum = values.reduce((total, value, index) => total + value * (weights[index] as number), 0);
    return sum / values.length;
  },
});

test("each draw is of as many examples as there are, and the interval holds the inner 95 % of what the draws gave", () => {
  const drawn: number[] = [];
  const watched: Figure = {
    name: "watched",
    of(weights) {
      expect(weights.reduce((sum, weight) => sum + weight, 0)).toBe(3);
      return drawn.push(weights[0] as number);
    },
  };
  const { value } = finish(bootstrap(3, [[watched]], { seed: "ab".repeat(16), resamples: 81 }));
  // The first call is for the figure itself; the draws gave 2, 3, … 82.
  expect(value).toEqual([[{ name: "watched", low: 4, high: 80 }]]);
  expect(new Set(drawn)).toEqual(new Set([0, 1, 2, 3]));
});

test("the same seed gives the same intervals, another seed others, and groups share their draws", () => {
  const values = Array.from({ length: 20 }, (_, index) => index ** 2);
  const of = (seed: string) => finish(bootstrap(20, [[mean(values)], [mean(values)]], { seed })).value;
  const [first, second] = of("1".repeat(32));
  expect(second).toEqual(first);
  expect(of("1".repeat(32))).toEqual([first, second]);
  expect(of("2".repeat(32))[0]).not.toEqual(first);
});

test("what is not finite has no interval, nor has a single example", () => {
  const nothing: Figure = { name: "nothing", of: () => null };
  const rare: Figure = { name: "rare", of: (weights) => (weights[0] === 0 ? null : 1) };
  expect(finish(bootstrap(4, [[nothing, rare, mean([1, 1, 1, 1])]], { seed: "0".repeat(32) })).value).toEqual([
    [{ name: "mean", low: 1, high: 1 }],
  ]);
  expect(finish(bootstrap(1, [[mean([1])], []], { seed: "0".repeat(32) })).value).toEqual([[], []]);
});

test("a share of exactly 0 or 1 has an interval: up to where so extreme a share has a chance of 2.5 %", () => {
  const share = (values: readonly number[]): Figure => ({ ...mean(values), isShare: true });
  const [[zero, one, between] = []] = finish(
    bootstrap(10, [[share(Array(10).fill(0)), share(Array(10).fill(1)), share([...Array(9).fill(0), 1])]], { seed: "0".repeat(32) }),
  ).value;
  // By hand: (1 - 0.3085)^10 = 0.025.
  expect(zero).toEqual({ name: "mean", low: 0, high: expect.closeTo(0.3085, 4) });
  expect(one).toEqual({ name: "mean", low: expect.closeTo(1 - 0.3085, 4), high: 1 });
  expect(between).toMatchObject({ low: 0, high: expect.closeTo(0.3, 5) });
});

test("accuracy, ROUGE-L, token accuracy and exact match are shares; a loss and a metric of one's own are not", () => {
  const values = exampleValues({
    loss: Float64Array.of(0, 0),
    targets: Float64Array.of(1, 1),
    labels: { predicted: Float64Array.of(1, 1), actual: Float64Array.of(0, 0) },
    rougeL: Float64Array.of(0, 0),
    metrics: ["exact_match", "token_accuracy", "surprise"].map((name) => ({ name, values: Float64Array.of(0, 0) })),
  });
  const [intervals = []] = finish(bootstrap(2, [figuresOf(values, true)], { seed: "0".repeat(32) })).value;
  const wide = intervals.filter(({ low, high }) => low < high).map(({ name }) => name);
  expect(wide).toEqual(["accuracy", "rouge_l", "exact_match", "token_accuracy"]);
});

test("long work yields to the event loop", () => {
  const values = Array.from({ length: 20_000 }, (_, index) => index);
  expect(finish(bootstrap(20_000, [[mean(values)]], { seed: "0".repeat(32), resamples: 400 })).turns).toBe(5);
});

const CASES = 1000;
const N = 200;

/** Exponential with mean 1. */
const skewed = (rng: Rng) => -Math.log(1 - rng.next());

/** Examples of known truth: skewed losses, lengths that vary, an accuracy of 0.8, many ROUGE-L of 0, perfect confidence. */
function draw(rng: Rng) {
  const of = (next: () => number) => Float64Array.from({ length: N }, next);
  const tokens = of(() => 5 + Math.floor(60 * rng.next() ** 2));
  const perToken = tokens.map((count) => count * (0.5 + 0.5 * (skewed(rng) + skewed(rng))));
  const confidence = of(() => 0.5 + 0.5 * rng.next());
  return {
    classified: exampleValues({
      loss: of(() => skewed(rng) + skewed(rng)),
      targets: of(() => 1),
      labels: { predicted: of(() => (rng.next() < 0.8 ? 0 : 1)), actual: of(() => 0) },
      rougeL: of(() => (rng.next() < 0.6 ? 0 : rng.next() ** 2)),
    }),
    written: exampleValues({ loss: perToken, targets: tokens, bytes: tokens.map((count) => 4 * count) }),
    sure: exampleValues({
      loss: confidence,
      targets: of(() => 1),
      labels: { predicted: confidence.map((chance) => (rng.next() < chance ? 0 : 1)), actual: of(() => 0) },
      confidence,
    }),
  };
}

test("95 % intervals hold the truth in 93 to 97 % of 1,000 simulated cases", () => {
  const truth = { loss: 2, accuracy: 0.8, rouge_l: 0.4 / 3, "loss per token": 1.5, bits_per_byte: 1.5 / 4 / Math.LN2, ece: 0 };
  const held = new Map(Object.keys(truth).map((name) => [name, 0]));
  for (let number = 0; number < CASES; number++) {
    const { classified, written, sure } = draw(createRng(deriveSeed(1, "case", number)));
    const only = (figures: readonly Figure[], ...names: readonly string[]) => figures.filter(({ name }) => names.includes(name));
    const groups = [
      only(figuresOf(classified, false), "loss", "accuracy", "rouge_l"),
      only(figuresOf(written, true), "loss", "bits_per_byte").map((figure) => ({
        ...figure,
        name: figure.name === "loss" ? "loss per token" : figure.name,
      })),
      only(figuresOf(sure, false), "ece"),
    ];
    const { value } = finish(bootstrap(N, groups, { seed: deriveSeed(2, number), resamples: 400 }));
    for (const { name, low, high } of value.flat() as readonly (Interval & { name: keyof typeof truth })[])
      if (low <= truth[name] && truth[name] <= high) held.set(name, (held.get(name) as number) + 1);
  }
  const shares = Object.fromEntries([...held].map(([name, count]) => [name, count / CASES]));
  for (const name of ["loss", "accuracy", "rouge_l", "loss per token", "bits_per_byte"]) {
    expect(shares[name], name).toBeGreaterThanOrEqual(0.93);
    expect(shares[name], name).toBeLessThanOrEqual(0.97);
  }
  // Its interval is made to be wide enough where the bootstrap alone would not be, see figures.ts.
  expect(shares["ece"]).toBeGreaterThanOrEqual(0.95);
});
