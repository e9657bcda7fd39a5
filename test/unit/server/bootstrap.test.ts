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

test("an end between two of the draws' values lies between them in proportion", () => {
  let calls = 0;
  const counting: Figure = { name: "counting", of: () => calls++ };
  // Draws give 1 to 21: 2.5 % of the way is half a step.
  expect(finish(bootstrap(3, [[counting]], { seed: "0".repeat(32), resamples: 21 })).value).toEqual([
    [{ name: "counting", low: 1.5, high: 20.5 }],
  ]);
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

test("the interval of a share is Wilson's, and has a width where every draw is the same", () => {
  const share = (values: readonly number[]): Figure => ({ ...mean(values), isShare: true });
  const of = (hits: number, n: number) => {
    const values = Array.from({ length: n }, (_, index) => (index < hits ? 1 : 0));
    return finish(bootstrap(n, [[share(values)]], { seed: "0".repeat(32) })).value[0]?.[0];
  };
  const near = (value: number): unknown => expect.closeTo(value, 4);
  // The examples of R. G. Newcombe, Statistics in Medicine 17, 1998, p. 857, table I, method 3.
  expect(of(81, 263)).toEqual({ name: "mean", low: near(0.2553), high: near(0.3662) });
  expect(of(15, 148)).toEqual({ name: "mean", low: near(0.0624), high: near(0.1605) });
  expect(of(1, 29)).toEqual({ name: "mean", low: near(0.0061), high: near(0.1718) });
  expect(of(0, 20)).toEqual({ name: "mean", low: 0, high: near(0.1611) });
  expect(of(20, 20)).toEqual({ name: "mean", low: near(1 - 0.1611), high: 1 });
});

test("accuracy, ROUGE-L, token accuracy and exact match are shares where every example has 0 or 1; others have bootstrap intervals", () => {
  const values = (each: Float64Array) =>
    exampleValues({
      loss: Float64Array.of(0, 0),
      targets: Float64Array.of(1, 1),
      labels: { predicted: Float64Array.of(1, 1), actual: Float64Array.of(0, 0) },
      rougeL: each,
      metrics: ["exact_match", "token_accuracy", "surprise"].map((name) => ({ name, values: each })),
    });
  const wide = (each: Float64Array) => {
    const [intervals = []] = finish(bootstrap(2, [figuresOf(values(each), true)], { seed: "0".repeat(32) })).value;
    return intervals.filter(({ low, high }) => low < high).map(({ name }) => name);
  };
  expect(wide(Float64Array.of(0, 0))).toEqual(["accuracy", "rouge_l", "exact_match", "token_accuracy"]);
  expect(wide(Float64Array.of(0.5, 0.5))).toEqual(["accuracy"]);
});

test("the macro-F1 of a draw leaves out labels that it has not", () => {
  const of3 = { predicted: Float64Array.of(0, 1, 1), actual: Float64Array.of(0, 1, 2) };
  const macroF1 = figuresOf(exampleValues({ loss: new Float64Array(3), targets: new Float64Array(3).fill(1), labels: of3 }), false).find(
    ({ name }) => name === "macro_f1",
  );
  expect(macroF1?.of(Float64Array.of(1, 1, 1))).toBeCloseTo((1 + 2 / 3 + 0) / 3, 12);
  expect(macroF1?.of(Float64Array.of(1, 2, 0))).toBe(1);
});

test("long work yields to the event loop", () => {
  const values = Array.from({ length: 20_000 }, (_, index) => index);
  expect(finish(bootstrap(20_000, [[mean(values)]], { seed: "0".repeat(32), resamples: 400 })).turns).toBe(5);
});

const CASES = 1000;
const N = 200;

/** Exponential with mean 1. */
const skewed = (rng: Rng) => -Math.log(1 - rng.next());

/** Label 0, 1 or 2 by these chances. */
const pick = (rng: Rng, [first, second]: readonly [number, number, number]) => {
  const at = rng.next();
  return at < first ? 0 : at < first + second ? 1 : 2;
};
const CHANCES = [0.5, 0.3, 0.2] as const;
/** Chances of a prediction, by the actual label. */
const CONFUSION = [
  [0.9, 0.05, 0.05],
  [0.1, 0.8, 0.1],
  [0.2, 0.2, 0.6],
] as const;

function trueMacroF1(): number {
  const scores = CHANCES.map((chance, label) => {
    const predicted = CHANCES.reduce((sum, each, actual) => sum + each * CONFUSION[actual]![label]!, 0);
    return (2 * chance * CONFUSION[label]![label]!) / (chance + predicted);
  });
  return scores.reduce((sum, score) => sum + score, 0) / scores.length;
}

/** Figures of examples whose truth is known, by what they are called in the table of truths. */
function draw(rng: Rng): Readonly<Record<string, Figure | undefined>> {
  const of = (next: () => number) => Float64Array.from({ length: N }, next);
  const once = of(() => 1);
  const tokens = of(() => 5 + Math.floor(60 * rng.next() ** 2));
  const written = exampleValues({
    loss: tokens.map((count) => count * (0.5 + 0.5 * (skewed(rng) + skewed(rng)))),
    targets: tokens,
    bytes: tokens.map((count) => 4 * count),
    metrics: [{ name: "token_accuracy", values: of(() => 1 - rng.next() ** 3) }],
  });
  const classified = exampleValues({
    loss: of(() => skewed(rng) + skewed(rng)),
    targets: once,
    labels: { predicted: of(() => (rng.next() < 0.8 ? 0 : 1)), actual: of(() => 0) },
    rougeL: of(() => (rng.next() < 0.6 ? 0 : rng.next() ** 2)),
  });
  const nearlyAll = { predicted: of(() => (rng.next() < 0.97 ? 0 : 1)), actual: of(() => 0) };
  const actual = of(() => pick(rng, CHANCES));
  const confused = { predicted: actual.map((label) => pick(rng, CONFUSION[label]!)), actual };
  const confidence = of(() => 0.5 + 0.5 * rng.next());
  const sure = (excess: number) =>
    exampleValues({
      loss: confidence,
      targets: once,
      labels: { predicted: confidence.map((chance) => (rng.next() < chance - excess ? 0 : 1)), actual: of(() => 0) },
      confidence,
    });
  const figure = (values: Parameters<typeof figuresOf>[0], name: string) => figuresOf(values, true).find((each) => each.name === name);
  return {
    loss: figure(classified, "loss"),
    perplexity: figure(written, "perplexity"),
    bits_per_byte: figure(written, "bits_per_byte"),
    token_accuracy: figure(written, "token_accuracy"),
    rouge_l: figure(classified, "rouge_l"),
    accuracy: figure(classified, "accuracy"),
    "high accuracy": figure(exampleValues({ loss: confidence, targets: once, labels: nearlyAll }), "accuracy"),
    macro_f1: figure(exampleValues({ loss: confidence, targets: once, labels: confused }), "macro_f1"),
    ece: figure(sure(0), "ece"),
    "ece of too much confidence": figure(sure(0.1), "ece"),
  };
}

test("95 % intervals hold the truth in 93 to 97 % of 1,000 simulated cases", () => {
  const truth = {
    loss: 2,
    perplexity: Math.exp(1.5),
    bits_per_byte: 1.5 / 4 / Math.LN2,
    token_accuracy: 3 / 4,
    rouge_l: 0.4 / 3,
    accuracy: 0.8,
    "high accuracy": 0.97,
    macro_f1: trueMacroF1(),
    ece: 0,
    "ece of too much confidence": 0.1,
  };
  const held = new Map(Object.keys(truth).map((name) => [name, 0]));
  const widths = new Map(held);
  for (let number = 0; number < CASES; number++) {
    const figures = Object.entries(draw(createRng(deriveSeed(1, "case", number)))).map(([name, figure]) => ({
      ...(figure as Figure),
      name,
    }));
    const { value } = finish(bootstrap(N, [figures], { seed: deriveSeed(2, number), resamples: 400 }));
    for (const { name, low, high } of value.flat() as readonly (Interval & { name: keyof typeof truth })[]) {
      expect(low, name).toBeGreaterThanOrEqual(0);
      if (low <= truth[name] && truth[name] <= high) held.set(name, (held.get(name) as number) + 1);
      widths.set(name, (widths.get(name) as number) + (high - low) / CASES);
    }
  }
  for (const [name, count] of held) {
    const share = count / CASES;
    // An ECE's interval is made to be wide enough where the bootstrap alone would not be, see figures.ts.
    const [least, most] = name.startsWith("ece") ? [0.95, 1] : [0.93, 0.97];
    expect(share, name).toBeGreaterThanOrEqual(least);
    expect(share, name).toBeLessThanOrEqual(most);
    expect(widths.get(name), name).toBeGreaterThan(0);
  }
  expect(widths.get("ece of too much confidence")).toBeLessThan(0.2);
});
