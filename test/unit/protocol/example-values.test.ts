import { expect, test } from "vitest";
import { RefusedError } from "../../../src/errors.ts";
import { decodeExamples, examplesShape, joinExamples } from "../../../src/protocol/example-values.ts";
import { examplesTensor } from "../../support/example-values.ts";

const ASKED = { ranks: [1, 4], count: 2, labels: 3 };
const GOOD = { loss: [1, 2, 3, 4], targets: [1, 2, 3, 4] } as const;
const LABELS = { predicted: [0, 1, 2, 0], actual: [0, 0, 2, 2] } as const;

test("a column has the examples of one rank after those of the other, and shards join in their order", () => {
  const { header, shape, bytes } = examplesTensor({ ...GOOD, ...LABELS }, { mine: [5, 6, 7, Number.NaN] });
  expect(examplesShape(header, ASKED)).toEqual(shape);
  // Memory that is not aligned.
  const moved = new Uint8Array(bytes.length + 1);
  moved.set(bytes, 1);
  const [first, second] = decodeExamples(header, { bytes: moved.subarray(1) }, ASKED);
  expect([first?.loss, second?.loss]).toEqual([Float64Array.of(1, 2), Float64Array.of(3, 4)]);
  expect(second?.labels).toEqual({ predicted: Float64Array.of(2, 0), actual: Float64Array.of(2, 2) });
  expect(second?.metrics).toEqual([{ name: "mine", values: Float64Array.of(7, Number.NaN) }]);
  expect([first?.bytes, first?.confidence, first?.rougeL]).toEqual([undefined, undefined, undefined]);
  const joined = joinExamples([second!, first!]);
  expect(joined.loss).toEqual(Float64Array.of(3, 4, 1, 2));
  expect(joined.labels?.actual).toEqual(Float64Array.of(2, 2, 0, 0));
  expect(joined.metrics[0]?.values).toEqual(Float64Array.of(7, Number.NaN, 5, 6));
});

test.each([
  ["no loss", ["targets"], [], /\bloss and targets\b/],
  ["another order", ["targets", "loss"], [], /\bloss, targets\b/],
  ["a column twice", ["loss", "targets", "targets"], [], /\bonce\b/],
  ["a prediction without its label", ["loss", "targets", "predicted"], [], /\bpredicted and actual\b/],
  ["one of three counts", ["loss", "targets", "actual_positives"], [], /\btrue_positives and predicted_positives and actual_positives\b/],
  ["a predicted number alone", ["loss", "targets", "predicted_value"], [], /\bpredicted_value and actual_value\b/],
  ["a confidence in nothing", ["loss", "targets", "confidence"], [], /\bpredicted beside confidence\b/],
  ["a metric twice", ["loss", "targets"], ["a", "a"], /\bmetrics\b.*\bonce\b/],
] as const)("%s is refused before memory is taken", (_, columns, metrics, message) => {
  const shape = () => examplesShape({ columns, metrics }, ASKED);
  expect(shape).toThrow(RefusedError);
  expect(shape).toThrow(message);
});

test.each([
  ["a number of targets that is not whole", { ...GOOD, targets: [1, 1.5, 1, 1] }, /\btargets of example 1 at rank 1\b.*\bwhole\b.*\b1\.5$/],
  ["a number of targets that is NaN", { ...GOOD, targets: [1, 1, Number.NaN, 1] }, /\btargets of example 0 at rank 4\b.*\bNaN$/],
  ["negative bytes", { ...GOOD, bytes: [0, 0, 0, -1] }, /\bbytes of example 1 at rank 4\b.*-1$/],
  ["a label out of range", { ...GOOD, ...LABELS, predicted: [0, 3, 0, 0] }, /\bpredicted of example 1 at rank 1\b.*\b3 labels\b.*\b3$/],
  ["an endless label", { ...GOOD, ...LABELS, actual: [0, Infinity, 0, 0] }, /\bactual of example 1\b.*Infinity$/],
  ["a confidence above 1", { ...GOOD, ...LABELS, confidence: [0, 1.01, 0, 0] }, /\bconfidence of example 1\b.*\b1\.01$/],
  [
    "more right than there are",
    { ...GOOD, true_positives: [0, 1, 2, 1], predicted_positives: [1, 1, 3, 1], actual_positives: [1, 1, 1, 1] },
    /\btrue_positives of example 0 at rank 4\b.*\bat most 1\b.*\b2$/,
  ],
  [
    "half a prediction",
    { ...GOOD, true_positives: [0, 0, 0, 0], predicted_positives: [1, 0.5, 1, 1], actual_positives: [1, 1, 1, 1] },
    /\bpredicted_positives of example 1 at rank 1\b.*\b0\.5$/,
  ],
  [
    "a true number that is NaN",
    { ...GOOD, predicted_value: [Number.NaN, 0, 0, 0], actual_value: [0, Number.NaN, 0, 0] },
    /\bactual_value of example 1 at rank 1\b.*\bfinite\b.*NaN$/,
  ],
  ["a ROUGE-L that is NaN", { ...GOOD, rouge_l: [0, 1, Number.NaN, 0] }, /\brouge_l of example 0 at rank 4\b.*\bNaN$/],
])("%s is refused", (_, columns, message) => {
  const { header, bytes } = examplesTensor(columns);
  const decode = () => decodeExamples(header, { bytes }, ASKED);
  expect(decode).toThrow(RefusedError);
  expect(decode).toThrow(message);
});

test("counts and numbers arrive as they were sent, and join", () => {
  const { header, shape, bytes } = examplesTensor({
    ...GOOD,
    true_positives: [1, 0, 1, 0],
    predicted_positives: [2, 0, 1, 1],
    actual_positives: [1, 1, 1, 1],
    predicted_value: [0.5, Infinity, Number.NaN, -1],
    actual_value: [1, 2, 1, 2],
  });
  expect(examplesShape(header, ASKED)).toEqual(shape);
  const [first, second] = decodeExamples(header, { bytes }, { ...ASKED, labels: 0 });
  const joined = joinExamples([second!, first!]);
  expect(joined.positives).toEqual({
    right: Float64Array.of(1, 0, 1, 0),
    predicted: Float64Array.of(1, 1, 2, 0),
    actual: Float64Array.of(1, 1, 1, 1),
  });
  expect(joined.numbers).toEqual({ predicted: Float64Array.of(Number.NaN, -1, 0.5, Infinity), actual: Float64Array.of(1, 2, 1, 2) });
  expect([joined.labels, joined.confidence]).toEqual([undefined, undefined]);
});

test("a model that diverged is no fault of the worker, and where no labels are known any number may be one", () => {
  const { header, bytes } = examplesTensor({
    loss: [Number.NaN, Infinity, -1, 0],
    targets: [1, 1, 1, 1],
    predicted: [0, 900, 0, 0],
    actual: [0, 0, 0, 0],
    confidence: [Number.NaN, 1 + 1e-7, 0, 1],
  });
  expect(decodeExamples(header, { bytes }, { ...ASKED, labels: 0 })).toHaveLength(2);
});
