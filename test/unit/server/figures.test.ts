import { describe, expect, test } from "vitest";
import { decodeExamples } from "../../../src/protocol/example-values.ts";
import { confusionOf } from "../../../src/server/confusion.ts";
import { figuresOf, tierMetrics } from "../../../src/server/figures.ts";
import { exampleValues, examplesTensor } from "../../support/example-values.ts";

/** Four examples at ranks 1 and 4; label 2 of the three never occurs and is never predicted. */
const { header, bytes } = examplesTensor({
  loss: [1, 2, 3, 4, 0.5, 0.25, 1.25, 2],
  targets: [1, 1, 1, 1, 1, 1, 1, 1],
  predicted: [0, 1, 1, 1, 0, 0, 1, 1],
  actual: [0, 0, 0, 1, 0, 0, 0, 1],
  confidence: [0.5, 0.5, 0.7, 0.9, 0.9, 0.95, 0.6, 1],
});
const [low, high] = decodeExamples(header, { bytes }, { ranks: [1, 4], count: 4, labels: 3 });

describe("the figures of four examples at two ranks are those worked out by hand:", () => {
  const nothing = { perplexity: null, rougeL: null, own: [], bitsPerByte: null, examples: 4 };

  test("at rank 1", () => {
    // Label 0: 1 right, predicted once, true three times; label 1: 1 right, predicted three times, true once.
    // Bins of 1/15: 0.5 and 0.5 together (one of two right), 0.7 (wrong), 0.9 (right).
    const ece = (Math.abs(1 - 1) + Math.abs(0 - 0.7) + Math.abs(1 - 0.9)) / 4;
    const { ece: found, ...rest } = tierMetrics(1, low!, false);
    expect(rest).toEqual({ r: 1, loss: 2.5, accuracy: 0.5, macroF1: (2 / 4 + 2 / 4) / 2, ...nothing });
    expect(found).toBeCloseTo(ece, 12);
  });

  test("at rank 4", () => {
    // Bins: 0.9 (right), 0.95 (right) and 1 (right) together, 0.6 (wrong): 0.9 is in the bin up to 14/15, with nothing else.
    const ece = (Math.abs(1 - 0.9) + Math.abs(2 - 1.95) + Math.abs(0 - 0.6)) / 4;
    const { ece: found, ...rest } = tierMetrics(4, high!, false);
    expect(rest).toEqual({ r: 4, loss: 1, accuracy: 0.75, macroF1: (4 / 5 + 2 / 3) / 2, ...nothing });
    expect(found).toBeCloseTo(ece, 12);
  });

  test("with bins of a fifteenth: 0.93 and 0.935 are in two", () => {
    const labels = { predicted: Float64Array.of(0, 0), actual: Float64Array.of(0, 1) };
    const loss = Float64Array.of(1, 1);
    const values = exampleValues({ loss, targets: loss, labels, confidence: Float64Array.of(0.93, 0.935) });
    expect(tierMetrics(1, values, false).ece).toBeCloseTo((0.07 + 0.935) / 2, 12);
  });

  test("as a confusion matrix without its empty cells", () => {
    expect(confusionOf(low!.labels!)).toEqual([
      [0, 0, 1],
      [0, 1, 2],
      [1, 1, 1],
    ]);
  });
});

test("a language model's loss is per target, its perplexity e^loss, and its bits per byte over what the targets spell", () => {
  const values = exampleValues({
    loss: Float64Array.of(2, 6),
    targets: Float64Array.of(1, 3),
    bytes: Float64Array.of(5, 11),
    rougeL: Float64Array.of(0.5, 1),
    metrics: [{ name: "token_accuracy", values: Float64Array.of(1, 0.5) }],
  });
  const own = [{ name: "token_accuracy", value: 0.75 }];
  const none = { accuracy: null, macroF1: null, ece: null };
  expect(tierMetrics(2, values, true)).toEqual({
    r: 2,
    loss: 2,
    perplexity: Math.exp(2),
    rougeL: 0.75,
    own,
    bitsPerByte: 8 / Math.LN2 / 16,
    examples: 2,
    ...none,
  });
  expect(figuresOf(values, true).map(({ name }) => name)).toEqual(["loss", "perplexity", "bits_per_byte", "rouge_l", "token_accuracy"]);
});

test("an example counts as often as its weight says", () => {
  const figures = Object.fromEntries(figuresOf(low!, false).map(({ name, of }) => [name, of]));
  const weights = Float64Array.of(0, 0, 1, 3);
  expect(figures["loss"]?.(weights)).toBe((3 + 3 * 4) / 4);
  expect(figures["accuracy"]?.(weights)).toBe(3 / 4);
  // Label 0: never right, once true; label 1: three right, predicted four times, true three times.
  expect(figures["macro_f1"]?.(weights)).toBe((0 + 6 / 7) / 2);
  expect(figures["ece"]?.(weights)).toBeCloseTo((0.7 + 3 * 0.1) / 4, 12);
});

test("a confidence at the edge of two of ECE's bins is in the lower one, and none at all in the first", () => {
  const eceOf = (confidence: readonly number[], hits: readonly number[]) =>
    tierMetrics(
      1,
      exampleValues({
        loss: new Float64Array(hits.length),
        targets: new Float64Array(hits.length).fill(1),
        labels: { predicted: Float64Array.from(hits, (hit) => 1 - hit), actual: new Float64Array(hits.length) },
        confidence: Float64Array.from(confidence),
      }),
      false,
    ).ece;
  // 0.2 ends the third bin, which holds 0.19 too: |0.8 - 0.19| / 2.
  expect(eceOf([0.2, 0.19], [1, 0])).toBeCloseTo(0.305, 12);
  expect(eceOf([0], [1])).toBe(1);
});

test("precision, recall and F1 are taken over the predictions of all examples together", () => {
  const values = exampleValues({
    loss: Float64Array.of(1, 1, 1),
    targets: Float64Array.of(1, 1, 1),
    positives: { right: Float64Array.of(1, 0, 2), predicted: Float64Array.of(1, 1, 3), actual: Float64Array.of(2, 0, 2) },
    metrics: [{ name: "subset_accuracy", values: Float64Array.of(0, 0, 0) }],
  });
  expect(tierMetrics(1, values, false).own).toEqual([
    { name: "f1", value: 6 / 9 },
    { name: "precision", value: 3 / 5 },
    { name: "recall", value: 3 / 4 },
    { name: "subset_accuracy", value: 0 },
  ]);
  const figures = Object.fromEntries(figuresOf(values, false).map(({ name, of }) => [name, of]));
  expect(figures["f1"]?.(Float64Array.of(3, 0, 0))).toBe(6 / 9);
  // Only the example without labels, of which one was predicted.
  expect(["f1", "precision", "recall"].map((name) => figures[name]?.(Float64Array.of(0, 3, 0)))).toEqual([0, 0, 0]);
  expect(figuresOf(values, false).find(({ name }) => name === "subset_accuracy")?.isShare).toBe(true);
});

test("of numbers, errors, R² and Pearson's correlation are those worked out by hand", () => {
  const numbers = { predicted: Float64Array.of(2, 4, 3), actual: Float64Array.of(1, 2, 6) };
  const values = exampleValues({ loss: Float64Array.of(1, 4, 9), targets: Float64Array.of(1, 1, 1), numbers });
  const found = Object.fromEntries(tierMetrics(1, values, false).own.map(({ name, value }) => [name, value]));
  expect(Object.keys(found)).toEqual(["rmse", "mae", "r2", "pearson"]);
  expect(found["rmse"]).toBeCloseTo(Math.sqrt(14 / 3), 12);
  expect(found["mae"]).toBe(2);
  // Around 3 both: the truth by -2, -1, 3, the predictions by -1, 1, 0.
  expect(found["r2"]).toBe(1 - 14 / 14);
  expect(found["pearson"]).toBeCloseTo((2 - 1 + 0) / Math.sqrt(14 * 2), 12);
  const figures = Object.fromEntries(figuresOf(values, false).map(({ name, of }) => [name, of]));
  // Twice the first and once the third: truth 1, 1, 6 around 8/3, predictions 2, 2, 3 around 7/3.
  const weights = Float64Array.of(2, 0, 1);
  expect(figures["mae"]?.(weights)).toBeCloseTo(5 / 3, 12);
  expect(figures["r2"]?.(weights)).toBeCloseTo(1 - 11 / (50 / 3), 12);
  expect(figures["pearson"]?.(weights)).toBeCloseTo(1, 12);
  // Of predictions that are all the same there is no correlation.
  expect(figures["pearson"]?.(Float64Array.of(3, 0, 0))).toBeNull();
});

test("what is not finite is null, and so is a mean over nothing", () => {
  const broken = exampleValues({
    loss: Float64Array.of(1, Number.NaN),
    targets: Float64Array.of(1, 1),
    bytes: Float64Array.of(0, 0),
    labels: { predicted: Float64Array.of(0, 1), actual: Float64Array.of(0, 0) },
    confidence: Float64Array.of(0.5, Number.NaN),
    metrics: [{ name: "endless", values: Float64Array.of(1, Infinity) }],
  });
  expect(tierMetrics(1, broken, true)).toMatchObject({ loss: null, perplexity: null, bitsPerByte: null, ece: null, accuracy: 0.5 });
  expect(tierMetrics(1, broken, true).own).toEqual([{ name: "endless", value: null }]);
  const none = exampleValues({ loss: new Float64Array(0), targets: new Float64Array(0) });
  expect(tierMetrics(1, none, true)).toMatchObject({ loss: null, perplexity: null, examples: 0 });
  expect(tierMetrics(1, exampleValues({ loss: Float64Array.of(1000), targets: Float64Array.of(1) }), true).perplexity).toBeNull();
});

test("of more than 1,000 cells the most frequent are kept", () => {
  const actual = Float64Array.from({ length: 2500 }, (_, index) => index % 1250);
  const predicted = actual.map((label, index) => (index < 1250 || label < 700 ? label : label + 1));
  const cells = confusionOf({ actual, predicted });
  expect(cells).toHaveLength(1000);
  expect(cells.filter(([, , examples]) => examples === 2)).toHaveLength(700);
  expect(cells.slice(699, 701)).toEqual([
    [699, 699, 2],
    [700, 700, 1],
  ]);
});
